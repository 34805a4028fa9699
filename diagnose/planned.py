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
    for stage in plan.stages:
        known = seconds(steps[stage]) if stage in steps else None
        cost = "seconds" if stage in QUICK else "not known yet"
        if known is not None:
            total += known
            cost = f"up to {duration(max(SHORTEST, known))}"
            if stage is Stage.SUBSET and (wait := seconds(search.get("wait", 0))):
                total += wait
                cost += f", {duration(wait)} more where it fails at first"
        lines.append(f"  {stage:<9} {QUESTIONS[stage]:<58} {cost}")
    each = seconds(steps.get(Stage.SUBSET, 0)) or 0.0
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
    arms, steps = found["arms"], estimate["steps"][Stage.SUBSET]
    each = _cost(estimate)(steps)
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
    steps, each = estimate["steps"][Stage.SUBSET], _cost(estimate)(estimate["steps"][Stage.SUBSET])
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


def _named(labels: Sequence[str]) -> str:
    more = f"; {len(labels) - MOST_NAMED} more" if len(labels) > MOST_NAMED else ""
    return "; ".join(labels[:MOST_NAMED]) + more
