"""What the values of one setting come to, side by side, where the user asked for it."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from probes.api import Findings, Inconclusive, ProbeDoc, Stage
from probes.learning._curves import proof
from probes.results import Severity

if TYPE_CHECKING:
    from probes.measurements import Context
    from probes.records.trials import Arm

DOC = ProbeDoc(
    code="FIT009",
    name="settings-compared",
    stage=Stage.SUBSET,
    experiment=True,
    severity=Severity.NOTE,
    summary="Short trainings with several values of one setting, over the same samples and seeds.",
    why="A setting that makes no difference in a short training may make one in a long run; one that makes a large "
    "difference usually keeps it.",
    fix="Take the value that ends best with every seed, and look at the curves before you trust a small difference.",
)


def run(ctx: Context) -> Findings:
    ablation = ctx.comparison()
    arms = [ablation.control, *ablation.arms]
    scored = all(trace.points[-1].val_score is not None for arm in arms for trace in arm.traces)
    ends = {arm.label: _end(arm, scored) for arm in arms}
    best = max(ends, key=ends.__getitem__) if scored else min(ends, key=ends.__getitem__)
    told = "; ".join(f"{label} {end:.1%}" if scored else f"{label} {end:.4g}" for label, end in ends.items())
    unit = "validation accuracy" if scored else "training loss"
    if ablation.cut:
        yield DOC.finding(
            "{knob}, cut short after {finished} short trainings; median {unit} of those: {told}.",
            knob=ablation.knob,
            finished=sum(len(arm.traces) for arm in arms),
            unit=unit,
            steps=ablation.steps,
            told=told,
            evidence=proof(ablation, compared=True),
        )
        raise Inconclusive(ablation.cut)
    yield DOC.finding(
        "{knob}, median {unit} over {seeds} seeds after at most {steps} steps: {told}. Best: {best}.",
        knob=ablation.knob,
        unit=unit,
        seeds=ablation.seeds,
        steps=ablation.steps,
        told=told,
        best=best,
        evidence=proof(ablation, compared=True),
    )
    return ""


def _end(arm: Arm, scored: bool) -> float:
    lasts = [trace.points[-1] for trace in arm.traces]
    return median((point.val_score or 0.0) if scored else point.train_loss for point in lasts)
