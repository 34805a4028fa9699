"""The trials of one pipeline: each made once, kept in the run folder, side by side where the machine allows.

Not here: how one trial runs (``trial``), which trials an answer needs (``ablate``, ``search``, ``relief``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from diagnose.experiments import judge, side_by_side
from diagnose.experiments.change import Change, Reading
from diagnose.experiments.kept import fingerprint
from diagnose.experiments.pieces import Pieces
from diagnose.experiments.trial import Samples, Setting, StepProgress, run_trial
from diagnose.user_code import UserCodeError
from probes.api import Inconclusive, Skip
from probes.results import to_json

if TYPE_CHECKING:
    from diagnose.context import MeasuringContext
    from diagnose.experiments.material import Material
    from probes.records.trials import Trace

# Operations of a forward pass, from which on the threads inside one training gain as much as trials side by side.
LIGHT = 2e9


@dataclass(frozen=True)
class Wanted:
    """One trial. ``to_the_end``: all the steps, though it has learned before."""

    change: Change
    seed: int
    steps: int
    to_the_end: bool = False

    @property
    def key(self) -> str:
        return f"trial {self.change.key} {self.seed} {self.steps}{' to the end' if self.to_the_end else ''}"

    @property
    def told(self) -> str:
        return f"{self.change.label}, seed {self.seed}"


class Trials:
    """``on_subset(change)`` and ``material(reading)``: what a trial needs; ``reported(wanted)`` shows how far it is."""

    def __init__(
        self,
        ctx: MeasuringContext,
        on_subset: Callable[[Change], tuple[Setting, Samples]],
        material: Callable[[Reading], Material],
        reported: Callable[[Wanted], StepProgress],
    ) -> None:
        self._ctx, self._on_subset, self._material, self._reported = ctx, on_subset, material, reported

    def trial(self, wanted: Wanted) -> Trace:
        return self._ctx.once(wanted.key, f"training {wanted.change.label}", lambda: self._in_turn(wanted))

    def finished(self, wanted: Wanted) -> Trace | None:
        """Where it has been made, here or in an earlier part of this run."""
        return self.trial(wanted) if self._ctx.kept.has(self._kept_key(wanted)) else None

    def ahead(self, trials: Iterable[Wanted]) -> None:
        """Makes those that are not known yet side by side; a single one, or one that reads files, is left for later."""
        if self._at_once() < 2:
            return
        todo = {wanted.key: wanted for wanted in trials if not self._known(wanted)}
        ready = [wanted for wanted in todo.values() if self._in_memory(wanted.change)]
        if len(ready) < 2:
            return
        made = side_by_side.answers([partial(self._in_fork, wanted) for wanted in ready], self._at_once())
        for wanted, trace in zip(ready, made, strict=True):
            if trace is not None:
                self._ctx.kept.add(self._kept_key(wanted), trace)

    def _in_turn(self, wanted: Wanted) -> Trace:
        def train() -> Trace:
            with side_by_side.on_one_thread() if self._at_once() > 1 else nullcontext():
                return self._train(wanted, self._reported(wanted), at_once=1)

        return self._ctx.kept.once(self._kept_key(wanted), train)

    def _in_fork(self, wanted: Wanted, alive: Callable[[], None]) -> Any:
        reported = self._reported(wanted)

        def progress(step: int, steps: int, loss: float) -> None:
            alive()
            reported(step, steps, loss)

        train = partial(self._train, wanted, progress, at_once=self._at_once())
        return to_json(self._ctx.kept.once(self._kept_key(wanted), train))

    def _train(self, wanted: Wanted, progress: StepProgress, *, at_once: int) -> Trace:
        self._ctx.completed_attempt()
        setting, samples = self._on_subset(wanted.change)
        stop = (lambda trace: "") if wanted.to_the_end else judge.stop_when_learned
        place = self._ctx.kept.place(self._kept_key(wanted))
        in_pieces = place is not None and (at_once > 1 or place.is_file())
        pieces = Pieces(self._ctx, place, at_once) if place is not None and in_pieces else None
        trace = run_trial(
            setting, samples, wanted.change, wanted.seed, wanted.steps, stop=stop, progress=progress, pieces=pieces
        )
        if pieces is not None:
            pieces.end()
        return trace

    def _at_once(self) -> int:
        """How many. Never by the clock: a trial's last digits depend on the number of its threads."""
        processes = self._ctx.processes
        return processes if processes > 1 and self._ctx.forward_operations() <= LIGHT else 1

    def _known(self, wanted: Wanted) -> bool:
        return self._ctx.knows(wanted.key) or self._ctx.kept.has(self._kept_key(wanted))

    def _in_memory(self, change: Change) -> bool:
        """Whether a trial of it reads nothing but memory."""
        try:
            self._ctx.completed_attempt()
            self._on_subset(change)
            if change.reading.samples is not None:
                return True
            material, plainly = self._material(change.reading), change.reading.plainly
            if plainly is None:
                return material.in_memory()
            plainly(True)  # what is read now is kept
            try:
                return material.in_memory()
            finally:
                plainly(False)
        except (UserCodeError, Skip, Inconclusive):  # whoever asks for the trial meets it
            return False

    def _kept_key(self, wanted: Wanted) -> str:
        return f"{self._fingerprint()} {wanted.key}"

    def _fingerprint(self) -> str:
        return self._ctx.once("fingerprint", "reading the first batch", lambda: fingerprint(self._ctx))
