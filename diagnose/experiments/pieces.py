"""Trials that were cut off on their way: what one had done so far, kept in a file, so that side by side no more is lost
than in turn.

Of several trials at once each is kept as many times on its way as there are trials: a kill loses a part of each, and
all the parts together are no more than one trial. In turn nothing is kept, for there only one is under way.

Not covered: a pipeline that remembers anything outside of its state dicts (see ``_beside``), or trains in a function of
its own, for it could not be made the same again. It begins anew.
"""

from __future__ import annotations

import os
import pickle
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from diagnose.training import checkpoints
from diagnose.training.state import Saved
from probes.records.trials import Point

if TYPE_CHECKING:
    from diagnose.context import MeasuringContext
    from diagnose.training.step import Engine

_TORCHS_OWN = frozenset(vars(torch.nn.Module()))


class Pieces:
    """One trial's state in the file ``path``, kept ``parts`` times on its way; with 1 an earlier piece is only taken
    up."""

    def __init__(self, ctx: MeasuringContext, path: Path, parts: int) -> None:
        self._ctx, self._path, self._parts = ctx, path, parts
        self._saved: Saved | None = None
        self._engine: Engine | None = None
        self._scheduler: Any = None
        self._held = b""
        self._at = 0

    def begin(self, engine: Engine, scheduler: Any, batches: Iterator[Any]) -> tuple[list[float], list[Point]] | None:
        """The losses and looks up to where an earlier process kept this trial, with everything put back as it was then,
        ``batches`` included; None where it begins. Call it before the first step."""
        held = _beside(engine)
        if held is None:
            return None
        self._engine, self._scheduler, self._held = engine, scheduler, held
        self._saved = Saved(self._ctx, engine, [])
        if not self._path.is_file():
            return None
        try:
            state = checkpoints.read(self._path)
        except checkpoints.Unreadable:
            return None
        self._at = int(state["step"])
        deque(islice(batches, self._at), maxlen=0)
        self._saved.restore(state)
        if scheduler is not None:
            scheduler.load_state_dict(state["played"])
        return state["losses"].tolist(), [Point(**point) for point in state["history"]]

    def step_done(self, steps: int, losses: Sequence[float], points: Sequence[Point]) -> None:
        """After each step of ``steps``; keeps the trial where a part of it has been done since the last time."""
        done = len(losses)
        if self._saved is None or self._parts < 2 or done >= steps or done - self._at < steps / self._parts:
            return
        assert self._engine is not None
        self._at = done
        if _beside(self._engine) != self._held:  # it remembers what no state dict holds
            self._saved = None
            return
        state, dropped = self._saved.capture(
            epoch=0, step=done, losses=torch.tensor(losses, dtype=torch.float64),
            history=[asdict(point) for point in points],
            played=None if self._scheduler is None else checkpoints.portable(self._scheduler.state_dict(), []),
        )  # fmt: skip
        if dropped:
            self._saved = None
            return
        written = self._path.with_suffix(f".{os.getpid()}")
        try:
            self._path.parent.mkdir(exist_ok=True)
            torch.save(state, written)
            written.replace(self._path)
        except (OSError, RuntimeError):  # a full disk: the trial goes on, and is kept at its end
            self._saved = None
            with suppress(OSError):
                written.unlink(missing_ok=True)

    def end(self) -> None:
        """The trial is finished: it is kept as a whole."""
        self._path.unlink(missing_ok=True)


def _beside(engine: Engine) -> bytes | None:
    """What the modules hold that no state dict does; None where that, or the rest of the pipeline, cannot be told."""
    pipeline = engine.pipeline
    known = type(pipeline.optimizer).__module__.startswith("torch.optim")
    if not known or pipeline.train_step is not None or pipeline.compute_loss is not None:
        return None
    loss = pipeline.loss.modules() if isinstance(pipeline.loss, torch.nn.Module) else ()
    held = []
    for module in (*engine.model.modules(), *loss):
        if not type(module).__module__.startswith("torch.nn."):
            held.append({name: value for name, value in vars(module).items() if name not in _TORCHS_OWN})
        held.append({name: module._buffers[name] for name in module._non_persistent_buffers_set})
    if pipeline.loss is not None and not isinstance(pipeline.loss, torch.nn.Module):
        held.append(dict(getattr(pipeline.loss, "__dict__", {})))
        cells = getattr(pipeline.loss, "__closure__", None) or ()
        held.append({str(place): cell.cell_contents for place, cell in enumerate(cells)})
    try:
        return pickle.dumps(held)
    except Exception:  # what a user's module holds may refuse in any way
        return None
