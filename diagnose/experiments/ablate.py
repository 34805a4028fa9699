"""An ablation: turn one knob, from the mildest change to the strongest, and find the mildest that repairs learning.

The control is the unchanged pipeline, or one under ``given`` changes of other knobs. A change repairs if it learns in
at least two of three seeds where the control fails in at least two of three. To spend little, one seed screens: where
even the strongest change does not learn, the knob is ruled out after one trial; otherwise the arms must learn within a
multiple of the steps that the strongest change needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from diagnose.experiments.change import AS_CONFIGURED, Change, together
from diagnose.experiments.judge import Learning, repaired, stayed_at_chance, steps_to_learn
from diagnose.experiments.knobs import arms as arms_of
from diagnose.experiments.trials import Wanted
from probes.api import Inconclusive
from probes.records.trials import Ablation, Arm, Trace

if TYPE_CHECKING:
    from diagnose.context import MeasuringContext

SEEDS = 3
NEEDED = 2  # of SEEDS
PATIENCE = 2.0  # an arm may take this many times the steps of the strongest change
ROUND_STEPS = 50
OFF_IN_OVERFIT = ("dropout", "weight-decay", "augmentation")  # a batch is memorised without them
HARDLY = 1 / 3  # of the way, by which it is not
AHEAD = 2  # arms that are screened at once where there are cores for it: one more than may be needed


class _Bench:
    """The trials of one ablation, by arm and seed."""

    def __init__(
        self, ctx: MeasuringContext, steps: int, given: Sequence[Change], *, signal: bool, to_the_end: bool = False
    ) -> None:
        self.ctx = ctx
        self.to_the_end = to_the_end
        self.measures_signal = signal
        self.steps = steps
        self.given = given
        self.traces: dict[str, dict[int, Trace]] = {}

    def learns(self, change: Change, seed: int) -> bool:
        known = self.traces.setdefault(change.key, {})
        if seed not in known:
            known[seed] = self.ctx.trainings.trial(
                self._whole(change), self.ctx.seed + seed, self.steps, to_the_end=self.to_the_end
            )
        return repaired(known[seed])

    def _whole(self, change: Change) -> Change:
        return together([*self.given, *([] if change is AS_CONFIGURED else [change])])

    def ahead(self, trials: Iterable[tuple[Change, int]]) -> None:
        """Makes these trials side by side where that is possible; they will be asked for."""
        self.ctx.trainings.ahead(
            Wanted(self._whole(change), self.ctx.seed + seed, self.steps, self.to_the_end) for change, seed in trials
        )

    def count(self, change: Change) -> int:
        """How many of SEEDS seeds learn."""
        self.ahead((change, seed) for seed in range(SEEDS))
        return sum(self.learns(change, seed) for seed in range(SEEDS))

    def learning(self, change: Change) -> int:
        """How many of those that were made learn."""
        return sum(repaired(trace) for trace in self.traces.get(change.key, {}).values())

    def take_finished(self, trials: Iterable[tuple[Change, int]]) -> None:
        """Those that side by side were finished, though not asked for."""
        for change, seed in trials:
            wanted = Wanted(self._whole(change), self.ctx.seed + seed, self.steps, self.to_the_end)
            if (trace := self.ctx.trainings.finished(wanted)) is not None:
                self.traces.setdefault(change.key, {})[seed] = trace

    def arm(self, change: Change) -> Arm:
        traces = self.traces.get(change.key, {})
        return Arm(
            key=change.key,
            label=self._whole(change).label,  # what was run, the changes that are given included
            size=change.size,
            traces=tuple(traces[seed] for seed in sorted(traces)),
            outcomes=tuple(traces[seed].outcome for seed in sorted(traces)),
            shares=tuple(traces[seed].share for seed in sorted(traces)),
            factors=change.factors,
            signal=self.ctx.trainings.gradient_agreement(self._whole(change)) if self.measures_signal else None,
            where=change.where,
        )


def ablate(
    ctx: MeasuringContext,
    knob: str,
    steps: int,
    values: Sequence[str] = (),
    *,
    given: Sequence[Change] = (),
    changes: Sequence[Change] = (),
    control_steps: int | None = None,
) -> Ablation:
    """Stops when decided. ``changes`` in place of the knob's usual ones; ``control_steps`` of the control, where the
    arms take others."""
    changes = changes or arms_of(ctx, knob, values)
    control = _Bench(ctx, control_steps or steps, given, signal=knob == "dropout")
    healthy = control.learns(AS_CONFIGURED, 0) or control.traces[AS_CONFIGURED.key][0].outcome == Learning.LEARNS
    bench = _Bench(ctx, steps, given, signal=knob == "dropout")
    found: Change | None = None
    strongest = changes[-1]
    if not healthy and _screen(bench, strongest, changes, knob):
        needed = bench.traces.get(strongest.key, {}).get(0)
        if needed is not None and needed.outcome == Learning.LEARNS:
            bench.steps = _rounded(min(steps, int(steps_to_learn(needed) * PATIENCE)))
        found = _mildest(bench, control, changes)
    failures = sum(stayed_at_chance(trace) for trace in control.traces["configured"].values())
    return Ablation(
        knob=knob,
        control=control.arm(AS_CONFIGURED),
        arms=tuple(bench.arm(change) for change in changes if change.key in bench.traces),
        repaired=None if found is None else found.key,
        proved=found is not None and failures >= NEEDED and len(control.traces["configured"]) >= SEEDS,
        steps=bench.steps,
        seeds=SEEDS,
        given=tuple(change.label for change in given),
    )


def _screen(bench: _Bench, strongest: Change, changes: Sequence[Change], knob: str) -> bool:
    """Whether any change is worth a closer look: for a graded knob the strongest one tells, else each is tried."""
    if knob == "lr":
        bench.ahead((change, 0) for change in changes)
        return any(bench.learns(change, 0) for change in changes)
    return bench.learns(strongest, 0)


def _mildest(bench: _Bench, control: _Bench, changes: Sequence[Change]) -> Change | None:
    """The first change, from the mildest, that learns in the majority of seeds; the control is repeated once found."""
    ordered = sorted(changes, key=lambda change: change.size)
    for place, change in enumerate(ordered):
        bench.ahead((later, 0) for later in ordered[place : place + AHEAD])
        if bench.learns(change, 0) and bench.count(change) >= NEEDED:
            control.count(AS_CONFIGURED)
            return change
    return None


def doubtful(ctx: MeasuringContext, knob: str, repair: Change) -> bool:
    """A batch is memorised without regularisation: where that fails, regularisation is not what is wrong, or not alone,
    even where learning is better without it."""
    if knob not in OFF_IN_OVERFIT:
        return False
    overfit = ctx.trainings.overfit_under(repair if knob == "augmentation" else AS_CONFIGURED)
    return overfit.stopped == "steps" and not overfit.falling and (overfit.share or 0.0) < HARDLY


def compare(ctx: MeasuringContext, knob: str, steps: int, values: Sequence[str] = ()) -> Ablation:
    """On purpose: every arm over every seed, to the end. Where the time budget ends before, what is finished, and why
    there is no more in ``cut``; raises Inconclusive where not even the unchanged pipeline is."""
    changes = arms_of(ctx, knob, values)
    bench = _Bench(ctx, steps, (), signal=knob == "dropout", to_the_end=True)
    wanted = [(change, seed) for change in (AS_CONFIGURED, *changes) for seed in range(SEEDS)]
    cut = ""
    try:
        bench.ahead(wanted)
        for change, seed in wanted:
            bench.learns(change, seed)
    except Inconclusive as reason:
        cut = str(reason)
        bench.take_finished(wanted)
        if not bench.traces.get(AS_CONFIGURED.key):
            raise
    learn = [change for change in sorted(changes, key=lambda c: c.size) if bench.learning(change) >= NEEDED]
    failures = sum(stayed_at_chance(trace) for trace in bench.traces[AS_CONFIGURED.key].values())
    return Ablation(
        knob=knob,
        control=bench.arm(AS_CONFIGURED),
        arms=tuple(bench.arm(change) for change in changes if bench.traces.get(change.key)),
        repaired=learn[0].key if learn and not cut else None,
        proved=bool(learn) and failures >= NEEDED and not cut and not doubtful(ctx, knob, learn[0]),
        steps=steps,
        seeds=SEEDS,
        cut=cut,
    )


def _rounded(steps: int) -> int:
    return max(ROUND_STEPS, -(-steps // ROUND_STEPS) * ROUND_STEPS)
