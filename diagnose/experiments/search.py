"""The search for the change that repairs learning: what ``git bisect`` is to a commit, for a training.

1. The unchanged pipeline is the control; where it learns there is nothing to find.
2. Each setting is turned by itself (``ablate``), those of an unusual value first. Where several repair, they are
   crossed: a change that adds nothing once another is made, while that one adds much, only soothed the same fault.
3. Where none repairs, all settings and parts are made known-good at once. If that learns, changes are taken back one
   by one until none can be spared: a part to look at, or several faults at once, each proved with the others mended.
4. Where even that does not learn, a small reference model and reference data tell model from data.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING

from diagnose.experiments.ablate import NEEDED, SEEDS, ablate, doubtful
from diagnose.experiments.change import AS_CONFIGURED, Change, together
from diagnose.experiments.judge import Learning, repaired, steps_to_learn
from diagnose.experiments.knobs import arms, scaled_lr
from diagnose.experiments.known_good import known_good
from diagnose.experiments.longer import LONGER, Longer
from diagnose.experiments.milder import boundary
from diagnose.experiments.order import SPEAKS
from diagnose.experiments.relief import arm_of, usual_value
from diagnose.experiments.trials import Wanted
from diagnose.experiments.usual import (
    is_merely_slow,
    is_narrow,
    is_unusual,
    leaves_usual_rates,
    starting_rate,
    suspects_first,
)
from probes.api import Inconclusive, Skip
from probes.records.trials import Ablation, Arm, Crossing, Relief, Search, Trace

if TYPE_CHECKING:
    from diagnose.context import MeasuringContext

# The settings of the user's optimizer, tried in place of a whole other one.
OF_OPTIMIZER = ("weight-decay", "clipping", "scheduler", "parameters", "lr")
AHEAD = 2  # knobs that are screened at once where there are cores for it
SOONER = 1.5  # times, from which on a change that makes a slow start quicker is worth a word
ADDS = 0.10  # of the way from guessing to the floor: a change that adds less on top of another adds nothing
MORE = 0.20  # of that way: what a change must be ahead of another whose effect it explains


def search(ctx: MeasuringContext, steps: int) -> Search:
    """``steps``: of each trial, at most. What the time budget cut short is told in ``cut``; raises nothing for it."""
    seeking = _Seeking(ctx, steps)
    cut = ""
    try:
        seeking.run()
    except Inconclusive as reason:
        cut = str(reason)
        # Rivals may be untried: a repair that was seen is told, but proves nothing yet.
        seeking.found = {knob: replace(found, proved=False) for knob, found in seeking.found.items()}
    return Search(
        control=seeking.control(),
        ablations=seeking.found,
        skipped=seeking.skipped,
        crossings=tuple(seeking.crossings),
        everything=seeking.everything,
        minimal=tuple(seeking.minimal),
        further=seeking.further,
        cut=cut,
        slow_start=seeking.slow_start,
    )


class _Seeking:
    def __init__(self, ctx: MeasuringContext, steps: int) -> None:
        self.ctx, self.steps, self.full = ctx, steps, steps
        self.found: dict[str, Ablation] = {}
        self.repairs: dict[str, Change] = {}
        self.skipped: dict[str, str] = {}
        self.crossings: list[Crossing] = []
        self.everything: Arm | None = None
        self.minimal: list[str] = []
        self.further: dict[str, Relief] = {}
        self.slow_start = ""
        self.waited: Trace | None = None

    def control(self) -> Arm | None:
        return next((ablation.control for ablation in self.found.values() if not ablation.given), None)

    def run(self) -> None:
        control = self.ctx.trainings.trial(AS_CONFIGURED, self.ctx.seed, self.steps)
        fails = control.outcome in {Learning.STUCK, Learning.SLOW, Learning.NONFINITE}
        later = self.ctx.trainings.given_longer(self.steps)
        if later is not None and later.learns:
            # No setting is to blame, though an unusual one may hold it back: see ``relief``.
            trace = later.trace
            waited = Arm("configured", AS_CONFIGURED.label, 0.0, (trace,), (trace.outcome,), (trace.share,))
            self.found = {
                knob: Ablation(knob, waited, (), None, False, self.steps, SEEDS) for knob in SPEAKS if self._arms(knob)
            }
            self.slow_start = self._slow_start(later)
            return
        self.waited = None if later is None else later.trace
        order = suspects_first(self.ctx)
        for place, knob in enumerate(order):
            if fails:
                self._screen_ahead(order[place : place + AHEAD])
            self._ablate(knob, self.steps)
            self._doubt(knob)
            if self._proved() and fails:  # rivals get as many steps as the repair was given, not more
                self.ctx.trainings.has_proof = True
                self.steps = min(self.steps, *(self.found[knob].steps for knob in self._proved()))
        if not fails:
            return
        if not self._proved() and self.waited is not None:
            self._wait_for_changes(order)
        if not self._proved() and is_narrow(self.ctx) and not self._learns(together([*known_good(self.ctx).values()])):
            self._ablate("width", self.steps)  # all else being good
        repairing = [knob for knob, ablation in self.found.items() if ablation.repaired is not None]
        # Without part of the user's loss, how far the rest falls says nothing about other changes.
        comparable = [knob for knob in repairing if knob != "regulariser"]
        if len(comparable) > 1:
            self._cross(comparable)
        elif not repairing:
            try:
                self._replace_everything()
            except Skip as reason:
                self.skipped["everything"] = str(reason)
        if proved := [knob for knob in self._proved() if not self.found[knob].given]:
            self._look_further(proved[0])
            if self.ctx.trainings.thorough:
                self._find_boundary(proved[0])

    def _wait_for_changes(self, knobs: Sequence[str]) -> None:
        """As long as for the unchanged pipeline, where a change has begun to help but does not get far in one trial."""
        begun = [
            knob for knob in knobs
            if (found := self.found.get(knob)) is not None and found.repaired is None
            and any(trace.falling or trace.outcome == Learning.SLOW for arm in found.arms for trace in arm.traces)
        ]  # fmt: skip
        steps, self.full = self.steps, LONGER * self.full if begun else self.full
        for knob in begun:
            self._ablate(knob, self.full)
            self._doubt(knob)
        self.steps = self.full if self._proved() else steps

    def _screen_ahead(self, knobs: Sequence[str]) -> None:
        """The first trial of each knob's ablation, side by side where that is possible."""
        strongest = [arms_of[-1] for knob in knobs if knob != "lr" and (arms_of := self._arms(knob))]
        self.ctx.trainings.ahead(Wanted(change, self.ctx.seed, self.steps) for change in strongest)

    def _slow_start(self, later: Longer) -> str:
        """What shows that it learns by itself, with the factor by which the first change that helps is quicker."""
        planned = f"of {later.planned:,} that are planned" if self.ctx.facts.epochs_stated else "if given them"
        told = f"{later.told}, {planned}"
        for knob in suspects_first(self.ctx):
            for change in self._eased(knob):
                other = self.ctx.trainings.trial(change, self.ctx.seed, self.steps)
                factor = steps_to_learn(later.trace) / max(1, steps_to_learn(other))
                if repaired(other) and factor >= SOONER:
                    least = "" if later.trace.outcome == Learning.LEARNS else "at least "
                    return f"{told}; {least}{factor:.1f} times slower than with {change.label}"
        return told

    def _eased(self, knob: str) -> list[Change]:
        """The strongest change of the knob; of the rate a usual one, where that is known to be another."""
        if knob != "lr":
            return self._arms(knob)[-1:]
        try:
            return [usual_value(self.ctx, knob)] if is_unusual(self.ctx, knob) else []
        except Skip:
            return []

    def _proved(self) -> list[str]:
        return [knob for knob, ablation in self.found.items() if ablation.proved]

    def _ablate(self, knob: str, steps: int, given: Sequence[Change] = (), changes: Sequence[Change] = ()) -> None:
        try:
            tried = changes or arms(self.ctx, knob)
            # The unchanged pipeline is tried once, for all its steps, however few a rival is given.
            own = None if given else self.full
            found = ablate(self.ctx, knob, steps, given=given, changes=tried, control_steps=own)
            self.found[knob] = found if given else replace(found, waited=self.waited)
        except Skip as reason:
            self.skipped[knob] = str(reason)
            return
        for change in tried:
            if change.key == self.found[knob].repaired:
                self.repairs[knob] = change

    def _doubt(self, knob: str) -> None:
        found = self.found.get(knob)
        if found is None or not found.proved:
            return
        if self._is_odd(knob) or doubtful(self.ctx, knob, self.repairs.get(knob, AS_CONFIGURED)):
            self.found[knob] = replace(found, proved=False)

    def _is_odd(self, knob: str) -> bool:
        """Whether the repair takes a usual value to one that nobody uses: it makes up for something else."""
        factors = self.repairs[knob].factors if knob in self.repairs else {}
        return knob == "lr" and leaves_usual_rates(self.ctx, factors.get("largest lr", factors.get("lr", 1.0)))

    def _learns(self, change: Change) -> bool:
        return repaired(self.ctx.trainings.trial(change, self.ctx.seed, self.steps))

    # -- several repair: which of them is to blame? -------------------------------------------------------------

    def _cross(self, knobs: Sequence[str]) -> None:
        """Each repair alone and the best one with each of the others, over the seeds, all for as many steps."""
        steps = max(self.found[knob].steps for knob in knobs)
        changes = {knob: self.repairs[knob] for knob in knobs}
        alone = {knob: self._shares(change, steps) for knob, change in changes.items()}
        odd = [knob for knob in knobs if self._is_odd(knob)]
        best = max([knob for knob in knobs if knob not in odd] or knobs, key=lambda knob: median(alone[knob]))
        for other in knobs:
            if other == best:
                continue
            both = self._shares(together([changes[best], changes[other]]), steps)
            ahead = median(alone[best]) - median(alone[other]) >= MORE and min(alone[best]) > max(alone[other])
            explains = ahead and median(both) - median(alone[best]) <= ADDS
            labels = changes[best].label, changes[other].label
            crossing = Crossing(*labels, tuple(alone[best]), tuple(alone[other]), tuple(both), explains, steps)
            self.crossings.append(crossing)
            for knob in (best, other):
                self.found[knob] = replace(self.found[knob], crossings=(*self.found[knob].crossings, crossing))
            if explains or (other in odd and best not in odd):
                self.found[other] = replace(self.found[other], explained_by=labels[0])
        left = [knob for knob in knobs if not self.found[knob].explained_by]
        for knob in left:
            rivals = tuple(changes[other].label for other in left if other != knob)
            self.found[knob] = replace(self.found[knob], rivals=rivals, unusual=is_unusual(self.ctx, knob))

    def _shares(self, change: Change, steps: int) -> list[float]:
        """How far each seed gets in so many steps: of the way from guessing to the floor, and where these are not
        known, of the starting loss; -1 where it blew up."""
        return [_way(trace) for trace in self._traces(change, steps)]

    def _look_further(self, repaired: str) -> None:
        """A repair may only just make it learn because something else is wrong as well: unusual settings are asked."""
        first = self.repairs[repaired]
        for knob in SPEAKS:
            if knob in self.found and knob != repaired and self.found[knob].repaired is None:
                if not is_unusual(self.ctx, knob) or (knob == "lr" and is_merely_slow(self.ctx)):
                    continue
                change = usual_value(self.ctx, knob)
                before, after = (self._traces(c, self.steps) for c in (first, together([first, change])))
                gains = [_way(a) - _way(b) for b, a in zip(before, after, strict=True)]
                if min(gains) > 0 and median(gains) >= MORE:
                    arms_of = arm_of(first, before), arm_of(change, after)
                    self.further[knob] = Relief(knob, *arms_of, self.steps, (first.label,))
                    self.found[knob] = replace(self.found[knob], holds_back=True)

    def _find_boundary(self, knob: str) -> None:
        found = self.found[knob]
        if not found.explained_by:
            edge = boundary(self.ctx, knob, self.repairs[knob], found.steps, NEEDED, SEEDS)
            self.found[knob] = replace(found, boundary=edge)

    def _traces(self, change: Change, steps: int) -> list[Trace]:
        trainings = self.ctx.trainings
        trainings.ahead(Wanted(change, self.ctx.seed + seed, steps, to_the_end=True) for seed in range(SEEDS))
        return [trainings.trial(change, self.ctx.seed + seed, steps, to_the_end=True) for seed in range(SEEDS)]

    # -- nothing repairs by itself ------------------------------------------------------------------------------

    def _replace_everything(self) -> None:
        members = known_good(self.ctx)
        if not members:
            return
        whole = together(list(members.values()))
        trace = self.ctx.trainings.trial(whole, self.ctx.seed, self.steps)
        self.everything = Arm(
            whole.key, "everything replaced by what is known to work", whole.size, (trace,), (trace.outcome,),
            (trace.share,),
        )  # fmt: skip
        if not repaired(trace):
            for knob in ("model", "data"):
                self._ablate(knob, self.steps)
            return
        members = self._spared(members, list(members))
        if "optimizer" in members:
            members = self._settings_of_optimizer(members)
        self.minimal = list(members)
        for knob in members:
            given = [change for name, change in members.items() if name != knob]
            self._ablate(knob, self.steps, given, [members[knob]] if knob == "lr" else ())

    def _settings_of_optimizer(self, members: Mapping[str, Change]) -> dict[str, Change]:
        """The settings of the user's optimizer, as few as there are, that do in place of another optimizer."""
        rest = {name: change for name, change in members.items() if name != "optimizer"}
        arms_of = {knob: self._arms(knob) for knob in OF_OPTIMIZER}
        for knob, changes in arms_of.items():
            for change in changes:
                if (rest or knob not in SPEAKS) and self._learns(together([*rest.values(), change])):
                    return {**rest, knob: change}
        others = {knob: changes[-1] for knob, changes in arms_of.items() if changes and knob != "lr"}
        if others and (rate := self._rate([*rest.values(), *others.values()])) is not None:
            members = {**rest, **others, "lr": rate}
            if self._learns(together(list(members.values()))):
                return self._spared(members, others)
        return dict(members)

    def _rate(self, given: Sequence[Change]) -> Change | None:
        """The user's optimizer at the rate that the range test finds under other changes, else at a usual one."""
        found = self.ctx.trainings.learning_rate_range(together(given))
        wanted = found.suggested or starting_rate(self.ctx)
        return scaled_lr(10.0 ** round(math.log10(wanted / found.now))) if found.now > 0 else None

    def _spared(self, members: dict[str, Change], doubtful: Iterable[str]) -> dict[str, Change]:
        """Without those of ``doubtful`` that make no difference."""
        for knob in doubtful:
            rest = {name: change for name, change in members.items() if name != knob}
            if rest and self._learns(together(list(rest.values()))):
                members = rest
        return members

    def _arms(self, knob: str) -> list[Change]:
        """From the mildest to the strongest; empty where there is nothing to turn."""
        try:
            return sorted(arms(self.ctx, knob), key=lambda change: change.size)
        except Skip as reason:
            self.skipped.setdefault(knob, str(reason))
            return []


def _way(trace: Trace) -> float:
    if trace.outcome == Learning.NONFINITE:
        return -1.0
    if trace.share is not None:
        return trace.share
    first, last = trace.points[0].train_loss, trace.points[-1].train_loss
    return (first - last) / abs(first) if first else 0.0
