"""The full training: epoch by epoch, watched, saved after each epoch and within it, and resumed as if it had never
stopped.

Resuming is exact on the CPU for a DataLoader over items: each epoch starts from random states that depend on the seed
and its number alone, and the generators of loaders and data sets are saved. Other loaders go on at the start of an
epoch. Not covered: what loader workers that persist over epochs draw at random, and loaders without a length.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from diagnose.batches import first_tensor
from diagnose.errors import UsageError
from diagnose.measure.updates import largest_lr
from diagnose.rng import preserved, seed_all
from diagnose.training import checkpoints
from diagnose.training.batch_stream import EPOCH_BATCHES, PASS_BATCHES, BatchStream
from diagnose.training.journal import POINTS_PER_EPOCH, Journal
from diagnose.training.meter import METRICS, Meter, run_pass
from diagnose.training.ranks import RankLost, Ranks, batch_print, is_lost
from diagnose.training.schedule import Schedule
from diagnose.training.state import Saved
from diagnose.training.step import Engine
from diagnose.training.validation import with_validation
from diagnose.training.watching import OnFinding, Watching
from diagnose.training.weights import initialise
from diagnose.user_code import UserCodeError
from probes.api import Inconclusive, Skip
from probes.results import Finding

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
    with preserved(), _deterministic(ctx.source.training.deterministic):
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
    return training.history


class _Training:
    """The state of one training. ``history``: a row per finished epoch; ``step``: updates so far."""

    def __init__(
        self, ctx: MeasuringContext, folder: Path, epochs: int | None, deadline: float | None, on_finding: OnFinding
    ) -> None:
        self.ranks = Ranks(ctx.device)
        self.ctx, self.folder, self.deadline = ctx, Path(self.ranks.share(str(folder))), deadline
        self.diverged: list[Finding] = []
        self.options = ctx.source.training
        self.task = ctx.facts.task
        self.ignore_index = ctx.trainings.ignore_index()
        pipeline = self.pipeline = ctx.source.build(ctx.seed)
        self._say(with_validation(pipeline, ctx.seed))
        self.epochs = epochs or pipeline.epochs
        pipeline.train = self.ranks.shard(pipeline.train, "training", train=True)
        pipeline.val = None if pipeline.val is None else self.ranks.shard(pipeline.val, "validation", train=False)
        self.history: list[Row] = []
        self.step = self._nonfinite_run = 0
        self._said_at, self._saved_at, self._saved_step = 0.0, time.monotonic(), 0
        self.engine = Engine(pipeline, ctx.device, channels_last=_channels_last(ctx), reuse=False)
        self.train_batches = BatchStream(pipeline.train, "training", EPOCH_BATCHES, self._say)
        self.val_batches = (
            None if pipeline.val is None else BatchStream(pipeline.val, "validation", PASS_BATCHES, self._say)
        )
        streams = [self.train_batches] + ([] if self.val_batches is None else [self.val_batches])
        self.saved = Saved(ctx, self.engine, streams)
        self.engine.caller = self.ranks.wrapped(self.engine.model)
        self.watching = Watching(ctx, self.engine, on_finding)
        self.schedule = Schedule(pipeline, self.epochs > pipeline.epochs, self._say)
        self.journal: Journal | None = None
        self._within: Mapping[str, Any] | None = None  # the checkpoint, where it was made within an epoch

    def close(self) -> None:
        self.watching.close()
        self.engine.close()
        if self.journal is not None:
            self.journal.close()
        self.ranks.close()

    def _say(self, note: str) -> None:
        if note and note not in self.ctx.notes:
            self.ctx.notes.append(note)

    # -- start, resume, save ------------------------------------------------------------------------------------

    def start(self, resume: bool, init_from: str | None) -> None:
        seed_all(self.ctx.seed)
        if self.ranks.is_main:
            checkpoints.sweep(self.folder)
        self._first_state(resume, init_from)
        if self.ranks.is_main:
            self.journal = Journal(self.folder, self.step)
            for name in ("samples", "data_augmentation_demo"):
                self.journal.picture(name, self.folder / "figures" / f"{name}.png", self.step)
        if self.ranks.several:
            self._say(f"{self.ranks.world} ranks trained together; each batch of the loader was divided among them.")

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
            self._say(f"Resumed from {path.name}, {checkpoints.position(state)}.")
            return
        if resume:
            self._say("There was no checkpoint to resume from: the training started at epoch 1.")
        if init_from is not None:
            for note in initialise(self.engine.model, Path(init_from).expanduser()):
                self._say(note)

    def _restore(self, state: Mapping[str, Any]) -> None:
        own = state.get("ranks") or []
        if self.ranks.rank < len(own):
            state = {**state, **own[self.ranks.rank]}
        self.saved.restore(state)
        self.step = int(state["step"])
        self.history = [dict(row) for row in state["history"]]
        self.ctx.rows = list(self.history)
        self._within = state if state.get("batch") else None
        self.watching.restore(state.get("monitor"), self.history)
        if (seed := state.get("seed")) != self.ctx.seed:
            self._say(f"The checkpoint was made with seed {seed}, the training went on with seed {self.ctx.seed}.")
        if not self.train_batches.has_position:
            self._say(
                "The training loader is no DataLoader over items, so its position within an epoch is not known: "
                "the training went on at the start of an epoch."
            )
        if self.train_batches.keeps_workers:
            self._say(
                "The training loader keeps its workers over epochs (persistent_workers): what they draw at random "
                "differs from an uninterrupted training."
            )

    def _save(self, *, best: bool = False, keep: bool = False, **within: Any) -> None:
        self._saved_at, self._saved_step = time.monotonic(), self.step
        state, dropped = self.saved.capture(
            epoch=len(self.history),
            step=self.step,
            history=self.history,
            monitor=self.watching.state(),
            **{"batch": 0, **within},
        )
        if self.ranks.several:
            own = {key: state[key] for key in ("random", "loaders", "meter", "at_start", "monitor") if key in state}
            state["ranks"] = self.ranks.gather(own)
        if not self.ranks.is_main:
            return
        if dropped:
            self._say(f"Not in the checkpoints, as it is neither a tensor nor plain data: {', '.join(dropped)}.")
        checkpoints.save(self.folder, state, best=best, keep=keep)

    def _save_within(self, batches: int, meter: Meter, began: float) -> None:
        spent = time.monotonic() - began
        self._save(batch=batches, at_start=self._at_start, meter=meter.state(), seconds=spent)

    def _can_save_within(self) -> bool:
        """Whether the state within an epoch is whole: right after an update only."""
        return self.train_batches.has_position and self.engine.updated and not self._nonfinite_run

    def _save_is_due(self) -> bool:
        if not self._can_save_within():
            return False
        return self.ranks.agree(self._wants_to_save(), self.step)

    def _wants_to_save(self) -> bool:
        steps = self.options.checkpoint_steps
        if steps is not None and self.step - self._saved_step >= steps:
            return True
        since = time.monotonic() - self._saved_at
        return self._is_late() or bool(self.watching.stop) or since > 60 * self.options.checkpoint_minutes

    # -- epochs -------------------------------------------------------------------------------------------------

    def run(self, on_epoch: Callable[[Row], None]) -> None:
        if len(self.history) >= self.epochs:
            self._say(f"All {self.epochs} epochs had run already; --epochs asks for more.")
        while len(self.history) < self.epochs:
            row = self._epoch(len(self.history) + 1)
            self.history.append(row)
            self.ctx.rows = list(self.history)
            self._say(self.watching.epoch(row))
            if not self._nonfinite_run:  # else the last good state is kept
                is_best = best_epoch(self.history) == row["epoch"]
                self._save(best=is_best, keep=row["epoch"] % self.options.checkpoint_every == 0)
            if self.journal is not None:
                self.journal.row(self.history)
            on_epoch(dict(row))
            self._stop_if_asked(row["epoch"])
            if reason := self._ending(row):
                self._say(f"The training ended in epoch {row['epoch']} of {self.epochs}: {reason}.")
                return

    def _ending(self, row: Row) -> str:
        """Why no further epoch follows; empty where nothing speaks against one."""
        if self._nonfinite_run >= STOP_AFTER_NONFINITE:
            return f"the loss was not finite for {self._nonfinite_run} steps in a row"
        best, patience = best_epoch(self.history), self.options.patience
        if patience is not None and best is not None and row["epoch"] - best >= patience:
            return f"no epoch since epoch {best} was better (patience {patience})"
        return ""

    def _epoch(self, epoch: int) -> Row:
        started = time.monotonic()
        meter = Meter(self.pipeline, self.task, self.ignore_index)
        before, start = self._begin(epoch, meter)
        lr = self._train_pass(epoch, meter, start, started - before)
        trained = before + time.monotonic() - started
        if not meter.samples:
            raise Skip("the training loader is empty")
        seen = None if self.val_batches is None else self._val_pass(epoch, self.val_batches)
        if self.ranks.several:
            self._join(meter, seen)
        self.schedule.after_epoch(meter.loss if seen is None else seen.loss)
        row: Row = {"epoch": epoch, "step": self.step, "lr": lr}
        ours = ("loss", METRICS[self.task]) if self.task in METRICS else ("loss",)
        figures = {"train": meter.figures(), "val": {} if seen is None else seen.figures()}
        for name in dict.fromkeys((*ours, *figures["train"])):
            row |= {f"{split}_{name}": _finite(figures[split].get(name)) for split in ("train", "val")}
        row["seconds"] = before + time.monotonic() - started
        row["samples_per_second"] = meter.samples / max(trained, 1e-9)
        row |= self.watching.figures()
        if meter.nonfinite:
            row["nonfinite_steps"] = meter.nonfinite
        if seen is not None and seen.nonfinite:
            row["nonfinite_validation_batches"] = seen.nonfinite
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
            self._nonfinite_run = 0 if loss is None or math.isfinite(loss) else self._nonfinite_run + 1
            if engine.updated:
                self._updated(loss)
            if index % every == 0 and self.journal is not None:
                self.journal.point(self.step, _finite(loss))
            self._progress(f"epoch {epoch} of {self.epochs}", index + 1, stream.most, loss)
            if self._nonfinite_run >= STOP_AFTER_NONFINITE:
                break
            if self._save_is_due():
                self._save_within(index + 1, meter, began)
            self._check_deadline(epoch, index + 1)
            self._stop_if_asked(epoch)
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
        meter = Meter(self.pipeline, self.task, self.ignore_index)
        model.eval()
        self.ranks.same_buffers(model)
        wrapped, self.engine.caller = self.engine.caller, model  # ranks may have validation batches more or less
        with torch.no_grad():
            for index, raw in enumerate(stream.epoch()):
                self._check_deadline(epoch, index, "validation ")
                loss = meter.add(run_pass(self.engine, raw))
                self._progress(f"validation after epoch {epoch}", index + 1, stream.most, loss)
        self.engine.caller = wrapped
        model.train()
        return meter

    def _is_late(self) -> bool:
        return self.deadline is not None and time.monotonic() > self.deadline

    def _check_deadline(self, epoch: int, batches: int, which: str = "") -> None:
        if not self.ranks.agree(self._is_late(), self.step):
            return
        saved = f"{len(self.history)} finished epochs are saved" if self.history else "no epoch was finished"
        within = self._saved_step == self.step and self.train_batches.has_position and not which
        where = "from there" if within else "after what is saved"
        raise Inconclusive(
            f"the time budget ended in epoch {epoch} of {self.epochs}, after {batches} {which}batches; {saved}, and "
            f"--resume goes on {where}."
        )

    def _stop_if_asked(self, epoch: int) -> None:
        """Raises Inconclusive where a finding was made that was to end the training, and says what that saves."""
        if not self.ranks.agree(bool(self.watching.stop), self.step):
            return
        raise Inconclusive(
            f"--stop-on {self.watching.stop} ended the training in epoch {epoch} of {self.epochs}, after "
            f"{self.step:,} updates; the last good state is saved."
        )

    def _progress(self, what: str, done: int, of: int, loss: float | None) -> None:
        now = time.monotonic()
        if now - self._said_at > PROGRESS_SECONDS or done == of:
            self._said_at = now
            told = f", loss {loss:.3f}" if loss is not None and math.isfinite(loss) else ""
            self.ctx.progress(what + told, done, of)


@contextmanager
def _deterministic(wanted: bool) -> Iterator[None]:
    """Only algorithms that give the same result each time; torch raises where an operation has none."""
    if not wanted:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS asks for
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]


def _channels_last(ctx: MeasuringContext) -> bool:
    wanted = ctx.source.training.channels_last
    return ctx.trainings.channels_last() if wanted == "auto" else wanted == "yes"


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
