"""The full training: epoch by epoch, watched, saved after each epoch, and resumed as if it had never stopped.

Resuming is exact on the CPU: each epoch starts from random states that depend on the seed and its number alone, and
the loader's own generators are saved. Not covered: random numbers drawn from generators that a data set keeps to itself
or by loader workers that persist over epochs, and loaders without a length, which start anew.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from diagnose.errors import UsageError
from diagnose.measure.updates import largest_lr
from diagnose.redact import redact
from diagnose.rng import preserved, seed_all
from diagnose.training import checkpoints
from diagnose.training.batch_stream import EPOCH_BATCHES, PASS_BATCHES, BatchStream
from diagnose.training.journal import POINTS_PER_EPOCH, Journal
from diagnose.training.meter import METRICS, Meter, run_pass
from diagnose.training.schedule import Schedule
from diagnose.training.step import Engine, move_optimizer_state
from diagnose.training.validation import with_validation
from diagnose.training.weights import initialise
from diagnose.user_code import user_code
from probes.api import Inconclusive, Skip

if TYPE_CHECKING:
    from diagnose.context import MeasuringContext

Row = dict[str, Any]

STOP_AFTER_NONFINITE = 20  # steps in a row whose loss is NaN or infinite: the parameters do not come back
PROGRESS_SECONDS = 0.3


def train(
    ctx: MeasuringContext,
    folder: Path,
    *,
    epochs: int | None = None,
    resume: bool = False,
    init_from: str | None = None,
    on_epoch: Callable[[Row], None] = lambda row: None,
    deadline: float | None = None,
) -> list[Row]:
    """Train the pipeline as configured; the history, earlier epochs of a resumed run included.

    ``on_epoch`` gets each new row. What was done otherwise than asked is added to ``ctx.notes``. Ends early, with a
    note, where the loss is not finite for ``STOP_AFTER_NONFINITE`` steps in a row. Raises Inconclusive when
    ``deadline`` (time.monotonic) passes, with all finished epochs saved; UsageError where a checkpoint or
    ``init_from`` does not fit; UserCodeError where the user's code fails.
    """
    ctx.source.require_data("train")
    with preserved():
        training = _Training(ctx, folder, epochs, deadline)
        try:
            training.start(resume, init_from)
            training.run(on_epoch)
        finally:
            training.close()
    return training.history


class _Training:
    """The state of one training. ``history``: a row per finished epoch."""

    def __init__(self, ctx: MeasuringContext, folder: Path, epochs: int | None, deadline: float | None) -> None:
        self.ctx, self.folder, self.deadline = ctx, folder, deadline
        self.task = ctx.facts.task
        self.ignore_index = ctx.trainings.ignore_index()
        channels_last = ctx.trainings.channels_last()
        pipeline = self.pipeline = ctx.source.build(ctx.seed)
        self._say(with_validation(pipeline, ctx.seed))
        self.epochs = epochs or pipeline.epochs
        self.history: list[Row] = []
        self.step = self._nonfinite_run = 0
        self._said_at = 0.0
        self.engine = Engine(pipeline, ctx.device, channels_last=channels_last)
        self.train_batches = BatchStream(pipeline.train, "training", EPOCH_BATCHES, self._say)
        self.val_batches = (
            None if pipeline.val is None else BatchStream(pipeline.val, "validation", PASS_BATCHES, self._say)
        )
        self.schedule = Schedule(pipeline, self.epochs > pipeline.epochs, self._say)
        self.journal: Journal | None = None

    def close(self) -> None:
        self.engine.close()
        if self.journal is not None:
            self.journal.close()

    def _say(self, note: str) -> None:
        if note and note not in self.ctx.notes:
            self.ctx.notes.append(note)

    # -- start and resume ---------------------------------------------------------------------------------------

    def start(self, resume: bool, init_from: str | None) -> None:
        seed_all(self.ctx.seed)
        checkpoints.sweep(self.folder)
        self._first_state(resume, init_from)
        self.journal = Journal(self.folder, self.step)

    def _first_state(self, resume: bool, init_from: str | None) -> None:
        found = checkpoints.newest(self.folder) if resume else None
        if found is not None:
            path, state, note = found
            self._say(note)
            try:
                self._restore(state)
            except Exception as error:  # the state of another model, optimizer or scheduler fails in any way
                raise UsageError(
                    f"--resume: {path.name} does not fit this pipeline ({error}). Resume with the configuration it was "
                    "made with, or start from its weights with --init-from."
                ) from error
            self._say(f"Resumed from {path.name}, after epoch {state['epoch']}.")
            return
        if resume:
            self._say("There was no checkpoint to resume from: the training started at epoch 1.")
        if init_from is not None:
            for note in initialise(self.engine.model, Path(init_from).expanduser()):
                self._say(note)

    def _restore(self, state: Mapping[str, Any]) -> None:
        pipeline = self.pipeline
        self.engine.model.load_state_dict(state["model"])
        if pipeline.optimizer is not None and state.get("optimizer") is not None:
            pipeline.optimizer.load_state_dict(state["optimizer"])
            move_optimizer_state(pipeline.optimizer, self.engine.device)
        if pipeline.scheduler is not None and state.get("scheduler") is not None:
            pipeline.scheduler.load_state_dict(state["scheduler"])
        if state.get("scaler"):
            self.engine.scaler.load_state_dict(state["scaler"])
        checkpoints.restore_random(state["random"])
        for generator, saved in zip(self._generators(), state["loaders"], strict=False):
            generator.set_state(saved)
        self.step = int(state["step"])
        self.history = [dict(row) for row in state["history"]]
        self.ctx.rows = list(self.history)
        if (seed := state.get("seed")) != self.ctx.seed:
            self._say(f"The checkpoint was made with seed {seed}, the training went on with seed {self.ctx.seed}.")

    def _generators(self) -> list[torch.Generator]:
        found = list(self.train_batches.generators)
        return found + ([] if self.val_batches is None else self.val_batches.generators)

    def _save(self, *, best: bool) -> None:
        with user_code("saving a checkpoint"):
            state = self._state()
        checkpoints.save(self.folder, state, best=best)

    def _state(self) -> dict[str, Any]:
        pipeline, dropped = self.pipeline, list[str]()
        optimizer = pipeline.optimizer.state_dict() if pipeline.optimizer is not None else None
        scheduler = pipeline.scheduler.state_dict() if pipeline.scheduler is not None else None
        model = self.engine.model.state_dict()
        for key, value in model.items():
            if not isinstance(value, torch.Tensor):  # what get_extra_state gives may be anything
                model[key] = checkpoints.portable(value, dropped, f"model.{key}")
        state = {
            "format": checkpoints.FORMAT,
            "epoch": len(self.history),
            "step": self.step,
            "seed": self.ctx.seed,
            "model": model,
            "optimizer": checkpoints.portable(optimizer, dropped, "optimizer"),
            "scheduler": checkpoints.portable(scheduler, dropped, "scheduler"),
            "scaler": self.engine.scaler.state_dict(),
            "random": checkpoints.random_states(),
            "loaders": [generator.get_state() for generator in self._generators()],
            "history": self.history,
            "config": redact(self.ctx.source.config.to_dict(), Path.cwd()),
        }
        if dropped:
            self._say(f"Not in the checkpoints, as it is neither a tensor nor plain data: {', '.join(dropped[:10])}.")
        return state

    # -- epochs -------------------------------------------------------------------------------------------------

    def run(self, on_epoch: Callable[[Row], None]) -> None:
        assert self.journal is not None
        if len(self.history) >= self.epochs:
            self._say(f"All {self.epochs} epochs had run already; --epochs asks for more.")
        while len(self.history) < self.epochs:
            row = self._epoch(len(self.history) + 1)
            self.history.append(row)
            self.ctx.rows = list(self.history)
            if not self._nonfinite_run:  # else the last good state is kept
                self._save(best=best_epoch(self.history) == row["epoch"])
            self.journal.row(self.history)
            on_epoch(dict(row))
            if self._nonfinite_run >= STOP_AFTER_NONFINITE:
                self._say(
                    f"The training ended in epoch {row['epoch']} of {self.epochs}: the loss was not finite for "
                    f"{self._nonfinite_run} steps in a row."
                )
                return

    def _epoch(self, epoch: int) -> Row:
        started = time.monotonic()
        seed_all(epoch_seed(self.ctx.seed, epoch))
        self.train_batches.set_epoch(epoch - 1)
        meter = Meter(self.pipeline, self.task, self.ignore_index)
        lr = self._train_pass(epoch, meter)
        trained = time.monotonic() - started
        if not meter.samples:
            raise Skip("the training loader is empty")
        seen = None if self.val_batches is None else self._val_pass(epoch, self.val_batches)
        self.schedule.after_epoch(meter.loss if seen is None else seen.loss)
        row: Row = {"epoch": epoch, "step": self.step, "lr": lr}
        ours = ("loss", METRICS[self.task]) if self.task in METRICS else ("loss",)
        figures = {"train": meter.figures(), "val": {} if seen is None else seen.figures()}
        for name in dict.fromkeys((*ours, *figures["train"])):
            row |= {f"{split}_{name}": _finite(figures[split].get(name)) for split in ("train", "val")}
        row["seconds"] = time.monotonic() - started
        row["samples_per_second"] = meter.samples / max(trained, 1e-9)
        if meter.nonfinite:
            row["nonfinite_steps"] = meter.nonfinite
        if seen is not None and seen.nonfinite:
            row["nonfinite_validation_batches"] = seen.nonfinite
        return row

    def _train_pass(self, epoch: int, meter: Meter) -> float:
        """Train for one epoch; the learning rate of its last update."""
        engine, stream = self.engine, self.train_batches
        every = max(1, stream.most // POINTS_PER_EPOCH)
        lr = largest_lr(self.pipeline.optimizer)
        engine.model.train()
        for index, raw in enumerate(stream.epoch()):
            self._check_deadline(epoch, index)
            lr = largest_lr(self.pipeline.optimizer)
            loss = meter.add(engine.step(raw))
            if engine.updated:
                self._updated(loss)
            if index % every == 0 and self.journal is not None:
                self.journal.point(self.step, _finite(loss))
            self._progress(f"epoch {epoch} of {self.epochs}", index + 1, stream.most, loss)
            self._nonfinite_run = 0 if loss is None or math.isfinite(loss) else self._nonfinite_run + 1
            if self._nonfinite_run >= STOP_AFTER_NONFINITE:
                break
        if engine.finish_update():
            self._updated(None)
        return lr

    def _updated(self, loss: float | None) -> None:
        self.step += 1
        self.schedule.after_update(loss)

    def _val_pass(self, epoch: int, stream: BatchStream) -> Meter:
        model = self.engine.model
        meter = Meter(self.pipeline, self.task, self.ignore_index)
        model.eval()
        with torch.no_grad():
            for index, raw in enumerate(stream.epoch()):
                self._check_deadline(epoch, index, "validation ")
                loss = meter.add(run_pass(self.engine, raw))
                self._progress(f"validation after epoch {epoch}", index + 1, stream.most, loss)
        model.train()
        return meter

    def _check_deadline(self, epoch: int, batches: int, which: str = "") -> None:
        if self.deadline is None or time.monotonic() <= self.deadline:
            return
        saved = f"{len(self.history)} finished epochs are saved" if self.history else "no epoch was finished"
        raise Inconclusive(
            f"the time budget ended in epoch {epoch} of {self.epochs}, after {batches} {which}batches; {saved}, and "
            "--resume goes on after them."
        )

    def _progress(self, what: str, done: int, of: int, loss: float | None) -> None:
        now = time.monotonic()
        if now - self._said_at > PROGRESS_SECONDS or done == of:
            self._said_at = now
            told = f", loss {loss:.3f}" if loss is not None and math.isfinite(loss) else ""
            self.ctx.progress(what + told, done, of)


def epoch_seed(seed: int, epoch: int) -> int:
    return seed * 100_003 + epoch


def best_epoch(history: list[Row]) -> int | None:
    """The epoch with the best validation accuracy, else with the lowest validation, else training loss."""
    for key, sign in (("val_accuracy", -1), ("val_loss", 1), ("train_loss", 1)):
        rows = [row for row in history if row.get(key) is not None]
        if rows:
            best: int = min(rows, key=lambda row: (sign * row[key], row.get("val_loss") or 0.0))["epoch"]
            return best
    return None


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
