"""Watching from inside a program of the user's own: ``with diagnose.watching(model, optimizer): ...``.

Everything that the hooks put into torch is taken out again at the end of the block; models, optimizers, loaders and
random generators are never touched.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.optim import Optimizer

from diagnose.config import Config
from diagnose.diagnosis import diagnose as find_causes
from diagnose.diagnosis import verdict
from diagnose.watch import judge
from diagnose.watch.course import told
from diagnose.watch.hooks import recording
from diagnose.watch.recorder import Recorder
from diagnose.watch.replay import check_apart
from diagnose.watch.report import Report
from probes import catalogue
from probes.api import Stage


class Watching:
    """What ``watching`` gives; ``report`` is there when the block has ended."""

    def __init__(self) -> None:
        self.report: Report | None = None

    def _repr_html_(self) -> str:
        return self.report._repr_html_() if self.report is not None else "<i>still being watched</i>"

    def __repr__(self) -> str:
        return repr(self.report) if self.report is not None else "<still being watched>"


@contextmanager
def watching(*parts: nn.Module | Optimizer) -> Iterator[Watching]:
    """Watch the training in the block: ``with watching(model, optimizer) as watched: ...``, then ``watched.report``.

    ``parts`` may be left out: models and optimizers are found as they are used. Giving them says from the first step
    on which they are. An exception of the block goes on as it would; what was seen until then is still reported.
    """
    for part in parts:
        if not isinstance(part, (nn.Module, Optimizer)):
            raise TypeError(f"watching() takes models and optimizers, got {type(part).__name__}")
    for name in catalogue.names():
        catalogue.module(name)
    recorder = Recorder()
    watched = Watching()
    started = time.monotonic()
    ended = "exception"
    try:
        with recording(recorder):
            for part in parts:
                if isinstance(part, Optimizer):
                    recorder.stepping.optimizer_made(part)
            yield watched
        ended = "end"
    finally:
        watched.report = report(recorder, ended, time.monotonic() - started)


def report(recorder: Recorder, ended: str, seconds: float) -> Report:
    """The judgement over what a recorder has seen."""
    recorder.whole = False
    loop: Any = recorder.record(ended)
    results = [*judge.judge(loop, Config()), *check_apart(recorder, Config())]
    went = told(recorder.progress.history(), recorder.progress.course.trainings)
    stage = judge.stage(loop, results, seconds, lambda n: f"{n:,}", went)
    found = find_causes(results, [stage])
    outcome = verdict(found, results, [stage], [str(Stage.WATCH)])
    return Report(outcome, found, tuple(results), (stage,), went)
