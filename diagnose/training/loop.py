"""The full training: epoch by epoch, watched, saved after each epoch and within it, and resumed as if it had never
stopped.

Resuming is exact on the CPU for a DataLoader over items: each epoch starts from random states that depend on the seed
and its number alone, and the generators of loaders and data sets are saved. Other loaders go on at the start of an
epoch. Not covered: what loader workers that persist over epochs draw at random, and loaders without a length.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from diagnose.batches import first_tensor
from diagnose.measure.updates import largest_lr
from diagnose.rng import deterministic, preserved, seed_all
from diagnose.training import checkpoints
from diagnose.training.batch_stream import EPOCH_BATCHES, PASS_BATCHES, BatchStream
from diagnose.training.ending import Ending
from diagnose.training.journal import POINTS_PER_EPOCH, Journal
from diagnose.training.keeping import Keeper
from diagnose.training.meeting import RankLost
from diagnose.training.meter import Meter, run_pass
from diagnose.training.progress import throttled
from diagnose.training.ranks import Ranks, batch_print, is_lost
from diagnose.training.rows import Row, best_epoch, finite, losses_and_metrics, nonfinite_counts
from diagnose.training.schedule import Schedule
from diagnose.training.state import Saved
from diagnose.training.step import Engine
from diagnose.training.validation import with_validation
from diagnose.training.watching import OnFinding, Watching
from diagnose.user_code import UserCodeError
from probes.api import Skip
from probes.results import Finding

if TYPE_CHECKING:
    from diagnose.context import MeasuringContext


def train(
    ctx: MeasuringContext,
    folder: Path,
    *,
    epochs: int | None = None,
    resume: bool = False,
    init_from: str | None = None,
    on_epoch: Callable[[Row], None] = lambda row: None,
    on_finding: OnFinding = lambda finding: None,
    on_end: Callable[[Sequence[Finding]], None] = lambda findings: None,
    deadline: float | None = None,
) -> list[Row]:
    """Train the pipeline as configured; the history, earlier epochs of a resumed run included.

    ``on_epoch`` gets each new row, ``on_finding`` what the monitors see as soon as they see it, ``on_end`` what of it
    stands at the end, however that came. What was done otherwise than asked is added to ``ctx.notes``. Ends early, with
    a note, where the loss is not finite for ``STOP_AFTER_NONFINITE`` steps in a row. Raises Inconclusive when
    ``deadline`` (time.monotonic) passes, or a finding of ``--stop-on`` is made, with the state saved; UsageError where
    a checkpoint or ``init_from`` does not fit; UserCodeError where the user's code fails.
    """
    ctx.source.require_data("train")
    with preserved(), deterministic(ctx.source.training.deterministic):
        training = _Training(ctx, folder, epochs, deadline, on_finding)
        try:
            training.start(resume, init_from)
            training.run(on_epoch)
        except (UserCodeError, RuntimeError) as error:
            if is_lost(getattr(error, "original", error)):
                raise RankLost(
                    f"Another rank no longer answers after {training.step:,} updates: it died, or was killed. --resume "
                    "goes on from the last checkpoint."
                ) from error
            raise
        finally:
            training.close()
            on_end([*training.watching.findings(), *training.diverged])
    history = training.history
    del training
    gc.collect()  # it refers to itself, and its data would lie beside those of the pipeline that is built next
    return history


class _Training:
    """The state of one training. ``history``: a row per finished epoch; ``step``: updates so far."""

    def __init__(
        self, ctx: MeasuringContext, folder: Path, epochs: int | None, deadline: float | None, on_finding: OnFinding
    ) -> None:
        self.ranks = Ranks(ctx.device, ctx.progress, deadline)
        self.ctx, self.folder = ctx, Path(self.ranks.share(str(folder)))
        self.diverged: list[Finding] = []
        self.task = ctx.facts.task
        self.ignore_index, self.shifted = ctx.trainings.ignore_index(), ctx.trainings.shifts_targets()
        channels_last = _channels_last(ctx)
        ctx.expected()
        ctx.set_aside()  # all that was to be asked of it is known
        pipeline = self.pipeline = ctx.source.build(ctx.seed)
        self._say(with_validation(pipeline, ctx.seed))
        self.epochs = epochs or pipeline.epochs
        pipeline.train = self.ranks.shard(pipeline.train, "training", train=True)
        pipeline.val = None if pipeline.val is None else self.ranks.shard(pipeline.val, "validation", train=False)
        self.history: list[Row] = []
        self.step = 0
        self.engine = Engine(pipeline, ctx.device, channels_last=channels_last, reuse=False)
        self.train_batches = BatchStream(pipeline.train, "training", EPOCH_BATCHES, self._say)
        self.val_batches = (
            None if pipeline.val is None else BatchStream(pipeline.val, "validation", PASS_BATCHES, self._say)
        )
        streams = [self.train_batches] + ([] if self.val_batches is None else [self.val_batches])
        self.saved = Saved(ctx, self.engine, streams)
        self.engine.caller = self.ranks.wrapped(self.engine.model)
        self.watching = Watching(ctx, self.engine, on_finding)
        self.keeper = Keeper(ctx, self.folder, self.ranks, self.saved, self.train_batches, self.watching, self._say)
        self.schedule = Schedule(pipeline, self.epochs > pipeline.epochs, self._say)
        self.ending = Ending(ctx.source.training, self.ranks, self.watching, self.epochs, deadline)
        self._progress = throttled(ctx.progress)
        self.journal: Journal | None = None
        self._within: Mapping[str, Any] | None = None  # the checkpoint, where it was made within an epoch

    def close(self) -> None:
        self._say(self.watching.memory_growth())
        self.watching.close()
        self.engine.close()
        if self.journal is not None:
            self.journal.close()
        self.ranks.close()

    def _say(self, note: str) -> None:
        if note and note not in self.ctx.notes:
            self.ctx.notes.append(note)

    def start(self, resume: bool, init_from: str | None) -> None:
        seed_all(self.ctx.seed)
        state = self.keeper.first_state(resume, init_from, self.engine.model)
        if state is not None:
            self.step = int(state["step"])
            self.history = [dict(row) for row in state["history"]]
            self.ctx.rows = list(self.history)
            self._within = state if state.get("batch") else None
        if self.ranks.is_main:
            self.journal = Journal(self.folder, self.step)
            for name in ("samples", "data_augmentation_demo"):
                self.journal.picture(name, self.folder / "figures" / f"{name}.png", self.step)
        if self.ranks.several:
            self._say(f"{self.ranks.world} ranks trained together; each batch of the loader was divided among them.")

    def _save_within(self, batches: int, meter: Meter, began: float) -> None:
        spent = time.monotonic() - began
        self.keeper.save(
            self.step, self.history, batch=batches, at_start=self._at_start, meter=meter.state(), seconds=spent
        )

    def _can_save_within(self) -> bool:
        """Whether the state within an epoch is whole: right after an update only."""
        return self.train_batches.has_position and self.engine.updated and not self.ending.nonfinite_run

    # -- epochs -------------------------------------------------------------------------------------------------

    def run(self, on_epoch: Callable[[Row], None]) -> None:
        if len(self.history) >= self.epochs:
            self._say(f"All {self.epochs} epochs had run already; --epochs asks for more.")
        while len(self.history) < self.epochs:
            row = self._epoch(len(self.history) + 1)
            self.history.append(row)
            self.ctx.rows = list(self.history)
            self.watching.epoch(row)
            if not self.ending.nonfinite_run:  # else the last good state is kept
                is_best = best_epoch(self.history) == row["epoch"]
                self.keeper.save(self.step, self.history, best=is_best, keep=self.keeper.keeps(row["epoch"]))
            if self.journal is not None:
                self.journal.row(self.history)
            on_epoch(dict(row))
            self.ending.check_findings(self.step, row["epoch"])
            if reason := self.ending.after_epoch(self.history):
                self._say(f"The training ended in epoch {row['epoch']} of {self.epochs}: {reason}.")
                return

    def _epoch(self, epoch: int) -> Row:
        started = time.monotonic()
        meter = Meter(self.pipeline, self.task, self.ignore_index, shifted=self.shifted)
        before, start = self._begin(epoch, meter)
        lr = self._train_pass(epoch, meter, start, started - before)
        trained = before + time.monotonic() - started
        if not meter.samples:
            raise Skip("the training loader is empty")
        seen = None if self.val_batches is None else self._val_pass(epoch, self.val_batches)
        if self.ranks.several:
            self._join(meter, seen)
        self.schedule.after_epoch(meter.loss if seen is None else seen.loss)
        row: Row = {"epoch": epoch, "step": self.step, "lr": lr, **losses_and_metrics(self.task, meter, seen)}
        row["seconds"] = before + time.monotonic() - started
        row["samples_per_second"] = meter.samples / max(trained, 1e-9)
        row |= {**self.watching.figures(), **nonfinite_counts(meter, seen)}
        return row

    def _begin(self, epoch: int, meter: Meter) -> tuple[float, int]:
        """Set the random states of an epoch; (seconds, batches) that it had before an interruption."""
        seed_all(epoch_seed(self.ctx.seed, epoch))
        self.train_batches.set_epoch(epoch - 1)
        within, self._within = self._within, None
        if within is None:
            self._at_start = self.saved.generators()
            return 0.0, 0
        self._at_start = within["at_start"]
        self.saved.put_back(self._at_start)
        self.train_batches.skip(within["batch"])
        checkpoints.restore_random(within["random"])
        self.saved.put_back(within["loaders"])
        meter.restore(within["meter"])
        return float(within["seconds"]), int(within["batch"])

    def _join(self, meter: Meter, seen: Meter | None) -> None:
        """The sums of all ranks, and what they have in common or should not have."""
        for one in (meter, seen):
            if one is not None:
                one.join(self.ranks.gather(one.state()))
        waited = float(self.watching.figures().get("data_wait", 0.0))
        found, remarks = self.ranks.checked(self.engine.model, waited, self._first_batch)
        for remark in remarks:
            self._say(remark)
        if found is not None and not self.diverged:
            self.diverged.append(found)

    def _train_pass(self, epoch: int, meter: Meter, start: int, began: float) -> float:
        """Train to the end of an epoch; the learning rate of its last update."""
        engine, stream, watching = self.engine, self.train_batches, self.watching
        every = max(1, stream.most // POINTS_PER_EPOCH)
        lr = largest_lr(self.pipeline.optimizer)
        engine.model.train()
        watching.waiting()
        for index, raw in enumerate(self._saved_on_failure(stream.epoch(start), start, meter, began), start):
            lr = largest_lr(self.pipeline.optimizer)
            if index == start and self.ranks.several:
                self._first_batch = batch_print([x for x in [first_tensor(raw)] if x is not None])
            with watching.step(raw):
                done = engine.step(raw)
            loss = meter.add(done)
            watching.stepped(done, loss, meter, lr)
            self.ending.saw(loss)
            if engine.updated:
                self._updated(loss)
            if index % every == 0 and self.journal is not None:
                self.journal.point(self.step, finite(loss))
            self._progress(f"epoch {epoch} of {self.epochs}", index + 1, stream.most, loss)
            if self.ending.is_lost:
                break
            if self._can_save_within() and self.keeper.is_due(self.step, at_once=self.ending.is_due()):
                self._save_within(index + 1, meter, began)
            self.ending.check_time(self.step, epoch, partial(self._left, index + 1))
            self.ending.check_findings(self.step, epoch)
            watching.waiting()
        if engine.finish_update():
            self._updated(None)
        return lr

    def _saved_on_failure(self, batches: Iterator[Any], start: int, meter: Meter, began: float) -> Iterator[Any]:
        """``batches``; where reading one fails, the state up to there is saved: a file may be mended."""
        done = start
        try:
            for raw in batches:
                yield raw
                done += 1
        except UserCodeError:
            if done > start and self._can_save_within():
                self._save_within(done, meter, began)
                self._say("The state before the batch that could not be read is saved: --resume goes on with it.")
            raise

    def _updated(self, loss: float | None) -> None:
        self.step += 1
        self.schedule.after_update(loss)

    def _val_pass(self, epoch: int, stream: BatchStream) -> Meter:
        model = self.engine.model
        meter = Meter(self.pipeline, self.task, self.ignore_index, shifted=self.shifted)
        model.eval()
        self.ranks.same_buffers(model)
        wrapped, self.engine.caller = self.engine.caller, model
        with torch.no_grad():
            for index, raw in enumerate(stream.epoch()):
                if not self.ranks.several:  # they may have batches more or less
                    self.ending.check_time(self.step, epoch, partial(self._left, index, "validation "))
                loss = meter.add(run_pass(self.engine, raw))
                self._progress(f"validation after epoch {epoch}", index + 1, stream.most, loss)
        self.engine.caller = wrapped
        model.train()
        return meter

    def _left(self, batches: int, which: str = "") -> str:
        """Where an epoch stands that is ended, and where --resume goes on."""
        saved = f"{len(self.history)} finished epochs are saved" if self.history else "no epoch was finished"
        within = self.keeper.step == self.step and self.train_batches.has_position and not which
        where = "from there" if within else "after what is saved"
        return f"after {batches} {which}batches; {saved}, and --resume goes on {where}"


def _channels_last(ctx: MeasuringContext) -> bool:
    wanted = ctx.source.training.channels_last
    return ctx.trainings.channels_last() if wanted == "auto" else wanted == "yes"


def epoch_seed(seed: int, epoch: int) -> int:
    return seed * 100_003 + epoch
