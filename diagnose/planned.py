"""The plan of a command in words, before anything runs: what it will try, and what that may cost."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from diagnose.config import Config
from diagnose.display import Quiet
from diagnose.experiments.order import SPEAKS
from diagnose.plan import QUESTIONS, Plan
from probes.api import Stage
from reports.numbers import duration

Estimate = Mapping[str, Any]
QUICK = {Stage.DATA, Stage.SMOKE, Stage.EVALUATE}
SHORTEST = 1.0  # second: a stage is never said to take less
MOST_NAMED = 4  # arms of one setting


def estimate_only(config: Config, stage: Stage, header: Mapping[str, Any], about: Mapping[str, Any]) -> Estimate:
    """Builds the pipeline and times one step, runs nothing else and keeps no run folder."""
    from diagnose.session import Session
    from diagnose.store import RunFolder

    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder.create(header, project=Path(place))
        with Session(config, folder, Quiet()) as session:
            return session.estimate(about) if session.load(stage) else {}


def of_run(plan: Plan, estimate: Estimate) -> list[str]:
    """The stages with what each will cost at most; unknown where the first step could not be timed."""
    seconds = _cost(estimate)
    steps: Mapping[str, int] = estimate.get("steps", {})
    search = estimate.get("search", {})
    lines, total = ["Plan:"], 0.0
    each = _of_trial(estimate) or 0.0
    for stage in plan.stages:
        known = each or None if stage is Stage.SUBSET else seconds(steps[stage]) if stage in steps else None
        cost = "seconds" if stage in QUICK else "not known yet"
        if known is not None:
            more = _more_in_subset(estimate, each) if stage is Stage.SUBSET else []
            total += known + sum(cost for cost, _ in more)
            cost = ", ".join([
                f"up to {duration(max(SHORTEST, known))}", *(f"{duration(cost)} more {when}" for cost, when in more)
            ])  # fmt: skip
        lines.append(f"  {stage:<9} {QUESTIONS[stage]:<58} {cost}")
    if plan.experiments and {Stage.OVERFIT, Stage.SUBSET} & set(plan.stages):
        cost = f", up to {duration(max(SHORTEST, each))} each" if each else ""
        number = f". {_how_many(search, each)}" if search else "."
        lines.append(
            f"Where it fails to learn, experiments are added: short trainings{cost}, ended early when decided{number}"
        )
    if search and total:
        usually, most = (duration(total + each * search[count]) for count in ("usually", "at_most"))
        lines.append(f"In all up to {duration(total)}; with experiments usually up to {usually}, never above {most}.")
    return lines


def of_comparison(knob: str, estimate: Estimate) -> list[str]:
    found = estimate.get("comparison", {})
    if "arms" not in found:
        return [f"Plan: nothing to compare: {found['nothing']}."] if "nothing" in found else []
    arms, steps, each = found["arms"], _steps(estimate), _of_trial(estimate)
    cost = "" if each is None else f", up to {duration(max(SHORTEST, each * found['trials']))}"
    return [
        f"Plan: {len(arms)} arms of {knob}, each with {found['seeds']} seeds: {found['trials']} short trainings of "
        f"{steps} steps{cost}.",
        *(f"  {label}" for label in arms),
    ]


def of_search(estimate: Estimate) -> list[str]:
    """What the search will try, and what it may cost."""
    found = estimate.get("search", {})
    knobs: Mapping[str, Sequence[str] | str] = found.get("knobs", dict.fromkeys(SPEAKS, "not known yet"))
    lines = ["Plan: the unchanged pipeline, then one setting at a time:"]
    for knob, labels in knobs.items():
        lines.append(f"  {knob:<15} {labels if isinstance(labels, str) else _named(labels)}")
    lines.append("  then all parts at once, given back one by one. What repairs is repeated with 3 seeds.")
    if not found:
        return [*lines, "  Short trainings, ended early when decided."]
    steps, each = _steps(estimate), _of_trial(estimate)
    cost = "" if each is None else f" of up to {duration(max(SHORTEST, each))}"
    wait = f", and once {found['wait']:,} steps as configured where that may be a slow start" if found["wait"] else ""
    return [
        *lines,
        f"  Short trainings{cost}, ended early when decided: {found['trials']} to see whether any setting repairs. "
        f"{_how_many(found, each)} Each takes up to {steps:,} steps{wait}.",
    ]


def _how_many(search: Mapping[str, Any], each: float | None) -> str:
    """``each``: seconds of one, at most."""
    usually, most = (
        f"{search[count]}" + (f" ({duration(each * search[count])})" if each else "")
        for count in ("usually", "at_most")
    )
    return f"Where one setting is to blame about {usually}; the limit, for faults that hide each other, is {most}."


def of_range_test(steps: int, estimate: Estimate) -> list[str]:
    known = _cost(estimate)(steps)
    cost = "" if known is None else f", up to {duration(max(SHORTEST, known))}"
    return [f"Plan: one training of {steps} steps with a rising learning rate{cost}."]


def _cost(estimate: Estimate) -> Callable[[int], float | None]:
    """Steps to seconds; None where no step could be timed."""
    each = estimate.get("seconds_per_step")
    return lambda steps: None if each is None else float(each) * steps


def _steps(estimate: Estimate) -> int:
    """Of a trial."""
    return int(estimate.get("subset", {}).get("steps", estimate.get("steps", {}).get(Stage.SUBSET, 0)))


def _of_trial(estimate: Estimate) -> float | None:
    """Seconds of a trial at most, reading and evaluating included; None where no step could be timed."""
    known = estimate.get("subset", {}).get("seconds")
    return _cost(estimate)(_steps(estimate)) if known is None else float(known)


def _more_in_subset(estimate: Estimate, each: float) -> list[tuple[float, str]]:
    """(seconds, when) of what may follow the stage's own training."""
    found, wait = estimate.get("subset", {}), estimate.get("search", {}).get("wait", 0)
    more = []
    if wait:
        more.append((each * wait / _steps(estimate), "where it fails at first"))
    if trials := found.get("trials"):
        more.append((each * trials, f"to compare unusual settings ({', '.join(found['compared'])})"))
    return more


def _named(labels: Sequence[str]) -> str:
    more = f"; {len(labels) - MOST_NAMED} more" if len(labels) > MOST_NAMED else ""
    return "; ".join(labels[:MOST_NAMED]) + more
