"""Where the fault lies: the parts whose swap for a known-good one makes a pipeline learn, or learn far better."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, Inconclusive, ProbeDoc, Skip, Stage
from probes.learning._curves import failed, learned_of, proof, shares
from probes.learning._repairs import HOLD_BACK, UNUSUAL, decisive, ends, ends_table, repairing_arm
from probes.optimizer import warmup_outlasts_training
from probes.results import Grade, Severity

if TYPE_CHECKING:
    from collections.abc import Generator

    from probes.measurements import Context
    from probes.records.trials import Search
    from probes.results import Finding

DOC = ProbeDoc(
    code="FIT008",
    name="learns-with-another-part",
    stage=Stage.SUBSET,
    experiment=True,
    hampers=True,
    severity=Severity.NOTE,
    summary="The pipeline does not learn, but it does once one of its parts is replaced.",
    why="Every part is replaced by one that is known to work, and given back where it makes no difference. What cannot "
    "be given back holds the fault, though not yet its name.",
    fix="Compare the part with the one that works: what it is given, what it returns, how it was set up.",
)
# What to look at in a part that holds the fault.
LOOK_AT = {
    "scheduler": "the learning rate over the run",
    "epsilon": "the epsilon of the optimizer",
    "width": "the narrowest hidden layers",
    "loss": "which loss it is, what it is given, and in which order",
    "initialisation": "how the weights begin: their scale, and whether they differ from each other",
    "batchnorm": "the momentum and mode of the batch norms",
    "batch-size": "the number of samples per step",
    "parameters": "which tensors the optimizer was given",
    "frozen": "which parameters are frozen",
    "loop": "the order of zero_grad, backward and step in train_step",
    "precision": "values too small or too large for 16 bits",
    "channel-order": "whether images were viewed where they should have been permuted",
    "optimizer": "which optimizer it is, and its settings",
    "model": "the architecture: a small reference model learns these data",
    "data": "the data, inputs and labels: the pipeline learns others",
}
ARRIVED = 0.01  # of the optimizer's own rate: below it little is learned
RISEN = 0.5  # of the highest rate: one that begins above it does not warm up


def run(ctx: Context) -> Findings:
    found = ctx.search()
    alone = [knob for knob, tried in found.ablations.items() if knob in LOOK_AT and tried.arms and not tried.given]
    if found.everything is None and not alone:
        held = yield from _held_back(ctx, found)
        if not held:
            raise Skip("it learns as it is, or with one setting changed")
        return ""
    parts = [knob for knob in (*found.minimal, *alone, "model", "data") if knob in LOOK_AT and knob in found.ablations]
    for part in dict.fromkeys(parts):
        ablation = found.ablations[part]
        try:
            arm = repairing_arm(ablation)
        except (Skip, Inconclusive):
            continue
        if arm is None:
            continue
        yield DOC.finding(
            "With {change}, {learned} seeds learn, where {failed} of {seeds} did not. Look at {look_at}.",
            part=part,
            change=arm.label,
            learned=learned_of(arm),
            failed=failed(ablation.control),
            seeds=len(ablation.control.outcomes),
            look_at=LOOK_AT[part],
            evidence=proof(ablation),
        )
        if part == "scheduler" and ablation.proved and never_arrives(ctx):
            yield _warm_up(ctx, arm.label)
    if found.cut:
        raise Inconclusive(found.cut)
    return _nothing(found)


def never_arrives(ctx: Context) -> bool:
    """Whether the rate rises from its first step on, and never gets near the one that the optimizer was given; a given
    rate of 1, by which a schedule of whole rates is multiplied, is none."""
    rates, given = ctx.learning_rates(), _rate_given(ctx)
    return bool(rates) and given != 1 and max(rates) < ARRIVED * given and rates[0] < RISEN * max(rates)


def _rate_given(ctx: Context) -> float:
    optimizer = ctx.pipeline.optimizer
    groups = optimizer.param_groups if optimizer is not None else []
    return max((float(group.get("initial_lr") or 0.0) for group in groups), default=0.0)


def _warm_up(ctx: Context, change: str) -> Finding:
    """Of a warm-up so long that a decay, which is planned as well, overtakes it."""
    rates = ctx.learning_rates()
    return warmup_outlasts_training.DOC.finding(
        "the learning rate is {peak:.3g} at its highest in {steps:,} steps, where the optimizer was given {given:.3g}; "
        "with {change} it learns",
        peak=max(rates),
        given=_rate_given(ctx),
        steps=ctx.planned_steps(),
        change=change,
        severity=Severity.ERROR,
        grade=str(Grade.PROVED),
        where=ctx.scheduler_at(),
    )


def _held_back(ctx: Context, found: Search) -> Generator[Finding, None, bool]:
    """Of a training that learns: what at a usual value, over the seeds, learns far more. Whether anything does."""
    if any("learns" not in ablation.control.outcomes for ablation in found.ablations.values()):
        return False
    parts = [] if decisive(ctx, UNUSUAL) else decisive(ctx, HOLD_BACK)
    for part in parts:
        relief = ctx.relief(part)
        yield DOC.finding(
            "With {change}, the {unit} is {after_end} after {steps_after} steps; as configured {before_end} after "
            "{steps}. Look at {look_at}.",
            part=part,
            **ends(relief),
            look_at=LOOK_AT[part],
            evidence=(ends_table(relief),),
        )
    return bool(parts)


def _nothing(found: Search) -> str:
    if found.everything is None:
        return "it learns with one setting changed"
    told = f"{found.everything.label}: {shares([found.everything]).rpartition(': ')[2]}"
    model = found.ablations.get("model")
    if model is not None and model.arms and model.repaired is None:
        return f"it does not learn with other parts either ({told}; {shares(model.arms)}): look at the data"
    return told
