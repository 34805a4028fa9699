"""What the probes of an ablation have in common: which change repairs learning, and the figures that say so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from probes.api import Inconclusive, Skip
from probes.learning._curves import failed, learned_of, proof, shares
from probes.results import Evidence, Grade, Scalar, Severity, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from probes.api import Findings, ProbeDoc
    from probes.measurements import Context
    from probes.records.trials import Ablation, Arm, Boundary, Crossing, Relief, Trace

SENTENCE = (
    "{given}, {control_failed} of {control_seeds} seeds did not learn in {steps} steps; with {change} {learned} did."
)
WAITED = " Nor did it in {waited_steps:,} steps."
EDGE = " Of the values tried for {edge_steps} steps, the mildest that learned is {mildest}; with {too_much} it did not."
MILDER = " It learned with {mildest}, too."
LEARNED = 0.10  # of the way from guessing to the floor, from which on a trial has clearly learned
UNUSUAL = ("dropout", "weight-decay", "clipping", "label-smoothing", "lr")
"""Knobs of which it is known which values are usual: one of them may hold back a training that learns."""
HOLD_BACK = ("scheduler", "epsilon", "batch-size", "width")
"""Parts of which the same holds."""
LEARNING_FAILURES = (
    "stuck-at-chance", "predicts-one-class", "slow-to-learn", "cannot-overfit", "fails-on-reference-data",
)  # fmt: skip
"""The symptoms that a setting under which nothing is learned brings about."""


def turned(
    ctx: Context,
    doc: ProbeDoc,
    knob: str,
    opening: str,
    details: Callable[[Arm], Mapping[str, Any]],
) -> Findings:
    """What a knob comes to: a finding where turning it repairs learning, a warning where an unusual value holds back a
    training that learns, else the fact that rules it out. ``details(arm)``: what the finding says beside the figures,
    its ``where`` and further ``evidence`` among it."""
    ablation = ctx.ablation(knob)
    if ablation.holds_back:
        return (yield from _hampered(ctx, doc, knob, opening, details))
    learns = ablation.repairing is not None and 2 * failed(ablation.control) < len(ablation.control.outcomes)
    if not ablation.arms or (learns and (failed(ablation.control) == 0 or relief_of(ctx, knob) is not None)):
        return (yield from _hampered(ctx, doc, knob, opening, details))
    arm = repairing_arm(ablation)
    if arm is None:
        return nothing_repairs(ablation)
    told = dict(details(arm))
    evidence = [*proof(ablation), *_crossed(ablation.crossings), *told.pop("evidence", ())]
    edge = ablation.boundary
    yield doc.finding(
        opening
        + SENTENCE
        + (WAITED if ablation.waited else "")
        + (EDGE if edge and edge.fails else MILDER if edge else ""),
        evidence=evidence,
        **told,
        **figures(ablation, arm),
    )
    return ""


def _crossed(crossings: Sequence[Crossing]) -> list[Evidence]:
    """How the change and its rivals did alone and together, over the seeds."""
    rows: list[list[Scalar]] = [
        [label, ", ".join(f"{share:.0%}" for share in closed)]
        for crossing in crossings
        for label, closed in (
            (crossing.first, crossing.first_alone),
            (crossing.second, crossing.second_alone),
            (f"{crossing.first} and {crossing.second}", crossing.both),
        )
    ]
    once = list({str(row): row for row in rows}.values())
    return [Table(("change", "way to the floor, each seed"), once, "Rivals, alone and together")] if once else []


def _hampered(
    ctx: Context, doc: ProbeDoc, knob: str, opening: str, details: Callable[[Arm], Mapping[str, Any]]
) -> Findings:
    try:
        relief = ctx.relief(knob)
    except Skip as reason:
        return _slower(ctx.ablation(knob)) or str(reason)
    told = dict(details(relief.after))
    grade = _relief_grade(ctx, knob, relief)
    yield doc.finding(
        opening + "the model does less well: {unit} {before_end} {given}, {after_end} with {change} ({steps} steps).",
        severity=Severity.NOTE if relief.in_use else Severity.ERROR if relief.decisive else Severity.WARNING,
        evidence=[*told.pop("evidence", ()), ends_table(relief)],
        **ends(relief),
        grade=str(grade),
        given=f"with {' and '.join(relief.given)}" if relief.given else "as configured",
        **told,
    )
    return ""


def ends(relief: Relief) -> dict[str, Any]:
    """How the seeds ended, as it is and with the usual value, in words."""
    before, after = ([_end(trace) for trace in arm.traces] for arm in (relief.before, relief.after))
    return {
        "unit": (unit := _unit(relief)),
        "before_end": _listed(before, unit),
        "after_end": _listed(after, unit),
        "change": relief.after.label,
        "steps": relief.steps,
        "steps_after": relief.steps if relief.steps_after is None else relief.steps_after,
    }


def ends_table(relief: Relief) -> Table:
    title = (
        f"{relief.steps} steps each, on the same samples"
        if relief.steps_after is None
        else f"As many epochs: {relief.steps} steps as configured, {relief.steps_after} otherwise"
    )
    rows: list[list[Scalar]] = [
        [arm.label, trace.seed, _end(trace)] for arm in (relief.before, relief.after) for trace in arm.traces
    ]
    return Table(("change", "seed", f"{_unit(relief)} at end"), rows, title)


def _unit(relief: Relief) -> str:
    return "accuracy" if relief.after.traces[0].points[-1].val_score is not None else "loss"


def _relief_grade(ctx: Context, knob: str, relief: Relief) -> Grade:
    if relief.given:  # beside a proved cause the rivals are ruled out
        return Grade.SUPPORTED
    if not relief.decisive:  # in a training that learns there is nothing to be proved
        return Grade.SUSPECTED
    return Grade.SUPPORTED if decisive(ctx, (*UNUSUAL, *HOLD_BACK), knob) else Grade.PROVED


def decisive(ctx: Context, knobs: Sequence[str], besides: str = "") -> list[str]:
    """Those of which an unusual value alone decides that little is learned."""
    return [knob for knob in knobs if knob != besides and (found := relief_of(ctx, knob)) and found.decisive]


def relief_of(ctx: Context, knob: str) -> Relief | None:
    """None where a usual value brings little."""
    try:
        return ctx.relief(knob)
    except Skip:
        return None


def relieving(ctx: Context, knob: str) -> Arm | None:
    """The usual value with which a training that learns does much better, None where there is none."""
    found = relief_of(ctx, knob)
    return None if found is None else found.after


def _slower(ablation: Ablation) -> str:
    """By how much a change speeds up a training that learns without it: no fault, but worth knowing."""
    arm = ablation.repairing
    if arm is None or not arm.traces or not ablation.control.traces:
        return ""
    own, other = (_steps_to_learn(trace) for trace in (ablation.control.traces[0], arm.traces[0]))
    least = "" if own[1] else "at least "
    return f"it learns as configured, only {least}{own[0] / max(1, other[0]):.1f} times slower than with {arm.label}"


def _steps_to_learn(trace: Trace) -> tuple[int, bool]:
    """(the step of the first look that closed LEARNED of the way, else the last one; whether it did)."""
    if trace.constant is not None and trace.floor is not None:
        wanted = trace.constant - LEARNED * (trace.constant - trace.floor)
        for point in trace.points:
            if point.train_loss <= wanted:
                return point.step, True
    return trace.steps, False


def _end(trace: Trace) -> float:
    last = trace.points[-1]
    if last.val_score is not None:
        return last.val_score
    return last.train_loss if last.val_loss is None else last.val_loss


def _listed(values: Sequence[float], unit: str) -> str:
    return ", ".join(f"{value:.1%}" if unit == "accuracy" else f"{value:.3g}" for value in values)


def repairing_arm(ablation: Ablation) -> Arm | None:
    """The mildest change that repairs learning, None where none does or where it only soothes another fault.

    Raises Skip where the control learns, Inconclusive where only some seeds of the control fail or of a change learn.
    """
    if not ablation.arms:
        raise Skip("the unchanged pipeline learns in a short training, so there is nothing to repair")
    fails = failed(ablation.control)
    if ablation.explained_by:
        return None
    if ablation.repairing is not None and fails == 0:
        raise Skip("the unchanged pipeline learns with every seed, so there is nothing to repair")
    if ablation.repairing is not None and 2 * fails < len(ablation.control.outcomes):
        raise Inconclusive(f"the unchanged pipeline learns in {learned_of(ablation.control)} seeds")
    if ablation.repairing is None and any("learns" in arm.outcomes for arm in ablation.arms):
        raise Inconclusive(f"only some seeds learn ({shares(ablation.arms)})")
    return ablation.repairing


def nothing_repairs(ablation: Ablation) -> str:
    """The fact that rules a knob out."""
    if ablation.explained_by and ablation.repairing is not None:
        label = ablation.repairing.label
        if any(crossing.explains and crossing.second == label for crossing in ablation.crossings):
            return f"it learns with {label} as well, but less, and that adds nothing to {ablation.explained_by}"
        return (
            f"it learns with {label} as well, which is far from usual; with {ablation.explained_by} that is not needed"
        )
    return f"it does not learn with other values either ({shares(ablation.arms)}; {ablation.steps} steps)"


def _grade(ablation: Ablation) -> Grade:
    """Supported where other changes repair as well and could not be told apart from this one."""
    if not ablation.proved:
        return Grade.SUSPECTED
    return Grade.SUPPORTED if ablation.rivals else Grade.PROVED


def figures(ablation: Ablation, arm: Arm) -> dict[str, Any]:
    """The values of SENTENCE, the grade, and where the losses and accuracies of control and repair ended."""
    trace, control = arm.traces[0], ablation.control.traces[0]
    return {
        "change": arm.label,
        "control_failed": failed(ablation.control),
        "control_seeds": len(ablation.control.outcomes),
        "steps": ablation.control.traces[0].steps,
        "learned": learned_of(arm),
        "repaired_seeds": sum(outcome == "learns" for outcome in arm.outcomes),
        "seeds": ablation.seeds,
        "grade": str(_grade(ablation)),
        "given": f"even with {' and '.join(ablation.given)}" if ablation.given else "as configured",
        "rivals": ", ".join(ablation.rivals),
        "unusual": ablation.unusual,
        **(
            {"mildest": edge.learns, "too_much": edge.fails, "edge_steps": edge.steps}
            if (edge := ablation.boundary)
            else {}
        ),
        **({"waited_steps": ablation.waited.steps} if ablation.waited else {}),
        "loss_repaired": trace.points[-1].train_loss,
        "accuracy_repaired": trace.points[-1].val_score,
        "chance": control.chance,
        # Under other changes the control is not what the user runs: the symptom has the figures of that.
        **({} if ablation.given else _ends_of(control)),
    }


def _edge(edge: Boundary | None) -> dict[str, Any]:
    return {} if edge is None else {"mildest": edge.learns, "too_much": edge.fails, "edge_steps": edge.steps}


def _ends_of(control: Trace) -> dict[str, Any]:
    return {
        "loss_first": control.points[0].train_loss,
        "loss_last": control.points[-1].train_loss,
        "accuracy": control.points[-1].val_score,
    }
