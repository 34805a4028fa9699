"""Hugging Face: a callback that watches ``Trainer.train``.

Needs ``transformers`` (``pip install 'torch-diagnose[transformers]'``). Models that return ``.loss`` and batches that
are dicts need no adapter: ``diagnose smoke`` takes them as they are. Loops with Accelerate are watched as any other.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

from transformers import TrainerCallback

from diagnose.watch.hooks import recording
from diagnose.watch.library import report
from diagnose.watch.recorder import Recorder
from diagnose.watch.report import Report


class DiagnoseCallback(TrainerCallback):
    """``Trainer(callbacks=[callback := DiagnoseCallback()])``; ``callback.report`` after ``train``."""

    def __init__(self) -> None:
        self.report: Report | None = None
        self._stack = ExitStack()
        self._recorder: Recorder | None = None
        self._started = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._started = time.monotonic()
        self._recorder = Recorder()
        self._stack.enter_context(recording(self._recorder))

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._stack.close()
        if self._recorder is not None:
            self.report = report(self._recorder, "end", time.monotonic() - self._started)
            self._recorder = None
