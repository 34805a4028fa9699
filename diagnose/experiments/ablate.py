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
from probes.records.trials import Ablation, Arm, Trace

if TYPE_CHECKING:
    from diagnose.context import MeasuringContext

SEEDS = 3
NEEDED = 2  # of SEEDS
PATIENCE = 2.0  # an arm may take this many times the steps of the strongest change
ROUND_STEPS = 50
AHEAD = 2  # arms that are screened at once where there are cores for it: one more than may be needed


class _Bench:
    """The trials of one ablation, by arm and seed."""

    def __init__(
        self, ctx: MeasuringContext, steps: int, given: Sequence[Change], *, signal: bool, to_the_end: bool
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
        )


def ablate(
    ctx: MeasuringContext,
    knob: str,
    steps: int,
    values: Sequence[str] = (),
    *,
    every_arm: bool = False,
    given: Sequence[Change] = (),
    changes: Sequence[Change] = (),
    control_steps: int | None = None,
) -> Ablation:
    """``every_arm`` runs all arms over all seeds to the end (a comparison on purpose) instead of stopping when decided;
    ``changes`` in place of the knob's usual ones; ``control_steps`` of the control, where the arms take others."""
    changes = changes or arms_of(ctx, knob, values)
    control = _Bench(ctx, control_steps or steps, given, signal=knob == "dropout", to_the_end=every_arm)
    healthy = control.learns(AS_CONFIGURED, 0) or control.traces[AS_CONFIGURED.key][0].outcome == Learning.LEARNS
    bench = _Bench(ctx, steps, given, signal=knob == "dropout", to_the_end=every_arm)
    found: Change | None = None
    strongest = changes[-1]
    worth = (every_arm or not healthy) and _screen(bench, strongest, changes, knob)
    if every_arm or worth:
        needed = bench.traces.get(strongest.key, {}).get(0)
        if not every_arm and needed is not None and needed.outcome == Learning.LEARNS:
            bench.steps = _rounded(min(steps, int(steps_to_learn(needed) * PATIENCE)))
        found = _mildest(bench, control, changes, every_arm)
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


def _mildest(bench: _Bench, control: _Bench, changes: Sequence[Change], every_arm: bool) -> Change | None:
    """The first change, from the mildest, that learns in the majority of seeds; the control is repeated once found."""
    found: Change | None = None
    if every_arm:
        bench.ahead((change, seed) for change in changes for seed in range(SEEDS))
    ordered = sorted(changes, key=lambda change: change.size)
    for place, change in enumerate(ordered):
        bench.ahead((later, 0) for later in ordered[place : place + AHEAD])
        if not every_arm and not bench.learns(change, 0):
            continue
        if bench.count(change) >= NEEDED and found is None:
            found = change
            control.count(AS_CONFIGURED)
            if not every_arm:
                break
    if every_arm:
        control.count(AS_CONFIGURED)
    return found


def _rounded(steps: int) -> int:
    return max(ROUND_STEPS, -(-steps // ROUND_STEPS) * ROUND_STEPS)
