"""The short trainings of one pipeline: overfit, subset, the trials of an ablation, reference data; each made once.

Not covered: the full training (``diagnose.training``), and how one trial runs (``diagnose.experiments.trial``).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from diagnose.experiments import reference
from diagnose.experiments.ablate import compare
from diagnose.experiments.change import AS_CONFIGURED, Change, Reading
from diagnose.experiments.ground import Ground
from diagnose.experiments.longer import LONGER, Longer, given_longer
from diagnose.experiments.lr_range import range_test
from diagnose.experiments.material import Material
from diagnose.experiments.memorising import OVERFIT_MORE, OVERFIT_STEPS, Memorising
from diagnose.experiments.order import ON_PURPOSE
from diagnose.experiments.relief import on_all_data, relief
from diagnose.experiments.search import search
from diagnose.experiments.trial import Samples, Setting, StepProgress, gradient_agreement, run_trial
from diagnose.experiments.trials import Trials, Wanted
from probes.api import Inconclusive, Skip

if TYPE_CHECKING:
    from diagnose.context import MeasuringContext
    from probes.records.trials import Ablation, LearningRateRange, Reference, Relief, Search, Trace

SUBSET_STEPS = 600
FEWEST_STEPS = 100  # a planned run that is shorter tells little
BY_HEART = 0.995  # training accuracy
MOST_STEPS = {
    "mnist": reference.STEPS,
    "overfit": OVERFIT_STEPS + 2 * (OVERFIT_STEPS + OVERFIT_MORE),  # once more, longer; then with regularisation
    "subset": SUBSET_STEPS,
}
PROGRESS_SECONDS = 0.3  # between two reports of one training


class ShortTrainings:
    """``has_proof``: an ablation has proved a cause, so that its rivals are given less room. ``thorough``: the search
    also looks how mild the repair may be."""

    def __init__(self, ctx: MeasuringContext) -> None:
        self._ctx = ctx
        self.has_proof = False
        self.thorough = False
        self._ground = Ground(ctx)
        self._memorising = Memorising(ctx, self._ground, self._reported)
        self._trials = Trials(ctx, self.on_subset, self.material, self._reported_trial)
        self._compared: dict[str, Ablation] = {}
        self._asked_for = ""

    @property
    def seed(self) -> int:
        """The run's seed; a trial's own lies a few above."""
        return self._ctx.seed

    # -- a batch by heart ---------------------------------------------------------------------------------------

    def overfit(self) -> Trace:
        return self._memorising.overfit()

    def overfit_under(self, change: Change) -> Trace:
        return self._memorising.overfit_under(change)

    def overfit_as_configured(self) -> Trace | None:
        return self._memorising.overfit_as_configured()

    def overfit_data_term(self) -> Trace:
        return self._memorising.overfit_data_term()

    def widened_overfit(self) -> Trace:
        return self._memorising.widened_overfit()

    # -- on a part of the data ----------------------------------------------------------------------------------

    def learned_by_heart(self, share: float) -> Trace:
        """As configured on ``share`` of the data, until the samples are known by heart or for all steps of a trial; for
        as many as it is known to need where it starts slowly, and for a planned run that is little longer."""

        def train() -> Trace:
            self._ctx.completed_attempt()
            later = self.given_longer()
            steps = later.trace.steps if later is not None and later.learns else self.steps
            if self._ctx.facts.epochs_stated and steps < self._ctx.planned_steps() <= LONGER * self.steps:
                steps = self._ctx.planned_steps()
            material = Material(self._ctx.pipeline, share, exact=True)
            samples = Samples(
                material.batches, material.look_train, material.look_val, material.samples, material.steps_per_epoch
            )
            known = lambda trace: "learned" if (trace.points[-1].train_score or 0.0) >= BY_HEART else ""  # noqa: E731
            return run_trial(
                self._ground.setting(material.look_train), samples, AS_CONFIGURED, self.seed, steps, stop=known,
                progress=self._reported(f"{share:.0%} of the data"),
            )  # fmt: skip

        return self._ctx.once(f"by heart {share}", "training on a share of the data", train)

    def subset(self) -> Trace:
        """The unchanged pipeline on a part of the data."""
        return self.trial(AS_CONFIGURED, self.seed)

    @property
    def steps(self) -> int:
        """Of a trial, at most."""
        return self._ground.steps(SUBSET_STEPS)

    def trial(self, change: Change, seed: int, steps: int | None = None, *, to_the_end: bool = False) -> Trace:
        """A short training on the subset, remembered by change, seed and steps. ``to_the_end``: all the steps, though
        it has learned before."""
        return self._trials.trial(Wanted(change, seed, self.steps if steps is None else steps, to_the_end))

    def to_the_end(self, change: Change, place: int) -> Trace:
        """``steps_in_plan`` steps on all of the data, though it has learned before; the run's seed + ``place``."""
        return self._trials.trial(on_all_data(change, self.seed + place, self.steps_in_plan))

    @property
    def steps_in_plan(self) -> int:
        """Those of a trial, or of the planned run where that is shorter: later figures are none of its."""
        planned = self._ctx.planned_steps() if self._ctx.facts.epochs_stated else self.steps
        return planned if self._ground.steps(FEWEST_STEPS) <= planned < self.steps else self.steps

    def ahead(self, trials: Iterable[Wanted]) -> None:
        """Makes trials that will be asked for, side by side where that is possible."""
        self._trials.ahead(trials)

    def finished(self, wanted: Wanted) -> Trace | None:
        return self._trials.finished(wanted)

    def learning_rate_range(self, change: Change = AS_CONFIGURED) -> LearningRateRange:
        """The range test, of the pipeline as it is or under a change."""
        return self._ctx.once(
            f"range {change.key}",
            "the learning-rate range test",
            lambda: range_test(self._ctx, self._reported("learning-rate range"), change),
        )

    def given_longer(self, steps: int | None = None) -> Longer | None:
        """Whether it learns after all, given more of the steps that are planned than those of a trial."""
        steps = self.steps if steps is None else steps
        key = f"given longer than {steps}"
        return self._ctx.once(key, "training for longer", lambda: given_longer(self._ctx, steps))

    def search(self) -> Search:
        """Every experiment that is needed to find what keeps the pipeline from learning."""
        return self._ctx.once("search", "the search for what repairs learning", lambda: search(self._ctx, self.steps))

    def ablation(self, knob: str) -> Ablation:
        """One knob turned, as the search found it. Raises Skip where there is nothing to turn, Inconclusive where the
        time budget ended before."""
        if knob in self._compared:
            if cut := self._compared[knob].cut:
                raise Inconclusive(cut)
            return self._compared[knob]
        found = self.search()
        if knob in found.ablations:
            return found.ablations[knob]
        if knob in found.skipped:
            raise Skip(found.skipped[knob])
        if found.cut:
            raise Inconclusive(found.cut)
        raise Skip("the search had no need of it")

    def relief(self, knob: str) -> Relief:
        """What a usual value brings where an unusual one learns. Raises Skip where it brings little."""
        if knob in (further := self.search().further):
            return further[knob]
        return self._ctx.once(
            f"relief {knob}", f"comparing {knob}", lambda: relief(self._ctx, knob, self.steps_in_plan)
        )

    @property
    def repaired_by(self) -> str | None:
        """The label of the first change under which it learned in the search, if that has been made."""
        arms = [ablation.repairing for ablation in self.search().ablations.values()]
        return next((arm.label for arm in arms if arm is not None), None)

    def comparison(self, knob: str, values: Sequence[str]) -> Ablation:
        """Every arm over every seed; it stands in for the ablation of that knob from then on."""
        values = values or ON_PURPOSE.get(knob, ())
        self._asked_for = knob
        found = self._ctx.once(
            f"comparison {knob} {' '.join(values)}",
            f"comparing values of {knob}",
            lambda: compare(self._ctx, knob, self.steps, values),
        )
        self._compared[knob] = found
        return found

    def last_comparison(self) -> Ablation:
        """Raises Skip where none was asked for, Inconclusive where it came to no end."""
        if not self._compared and self._asked_for:
            raise Inconclusive(f"the comparison of {self._asked_for} came to no end")
        if not self._compared:
            raise Skip("no comparison was asked for")
        return list(self._compared.values())[-1]

    def gradient_agreement(self, change: Change) -> float | None:
        """Cosine from -1 to 1 between the gradients of two passes over one batch; None where it cannot be taken."""
        setting, samples = self.on_subset()
        return self._ctx.once(
            f"agreement {change.key}",
            "comparing gradients",
            lambda: gradient_agreement(setting, samples, change, self.seed),
        )

    def reference(self) -> Reference:
        """The pipeline on reference data. Raises Skip where its model cannot take them."""
        return self._ctx.once(
            "reference", "training on reference data", lambda: reference.train_on_reference(self._ctx, self._reported)
        )

    # -- what they stand on -------------------------------------------------------------------------------------

    def on_subset(self, change: Change = AS_CONFIGURED) -> tuple[Setting, Samples]:
        return self._ground.on_subset(change)

    def material(self, reading: Reading) -> Material:
        return self._ground.material(reading)

    def ignore_index(self) -> int:
        return self._ground.ignore_index()

    def shifts_targets(self) -> bool:
        return self._ground.shifts_targets()

    def channels_last(self) -> bool:
        return self._ground.channels_last()

    def _reported(self, what: str) -> StepProgress:
        def report(step: int, steps: int, loss: float) -> None:
            self._ctx.progress(f"{what}: loss {loss:.3f}" if math.isfinite(loss) else what, step, steps)

        return _now_and_then(report)

    def _reported_trial(self, wanted: Wanted) -> StepProgress:
        on_step = self._ctx.kept.on_step
        if on_step is None:
            return self._reported(wanted.told)
        return _now_and_then(partial(on_step, wanted.change.label, wanted.seed))


def _now_and_then(report: StepProgress) -> StepProgress:
    """``report``, but no more often than anyone can read."""
    last = [0.0]

    def seldom(step: int, steps: int, loss: float) -> None:
        if time.monotonic() - last[0] > PROGRESS_SECONDS or step == steps:
            last[0] = time.monotonic()
            report(step, steps, loss)

    return seldom
