"""What the values of one setting come to, side by side, where the user asked for it."""

from __future__ import annotations

from math import inf, isfinite
from statistics import median
from typing import TYPE_CHECKING

from probes.api import Findings, Inconclusive, ProbeDoc, Stage
from probes.learning._curves import proof
from probes.results import Severity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
    fix="Take the value that ends best with every seed. Where the seeds of two values overlap, neither is better.",
)


def run(ctx: Context) -> Findings:
    ablation = ctx.comparison()
    arms = [ablation.control, *ablation.arms]
    scored = all(trace.points[-1].val_score is not None for arm in arms for trace in arm.traces)
    ends = {arm.label: _ends(arm, scored) for arm in arms}
    told = "; ".join(f"{label} {median(found):.1%}" if scored else f"{label} {median(found):.4g}"
                     for label, found in ends.items())  # fmt: skip
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
    best, *level = ahead(ends, largest=scored)
    yield DOC.finding(
        "{knob}, median {unit} over {seeds} seeds after at most {steps} steps: {told}. "
        + ("No clear difference between {best} and {level}: their seeds overlap." if level else "Best: {best}."),
        knob=ablation.knob,
        unit=unit,
        seeds=ablation.seeds,
        steps=ablation.steps,
        told=told,
        best=best,
        level=", ".join(level),
        evidence=proof(ablation, compared=True),
    )
    return ""


def ahead(ends: Mapping[str, Sequence[float]], *, largest: bool) -> list[str]:
    """The label of the best median, then those whose seeds overlap with its own, from the best to the worst."""
    order = sorted(ends, key=lambda label: median(ends[label]), reverse=largest)
    least, most = min(ends[order[0]]), max(ends[order[0]])
    return [label for label in order if max(ends[label]) >= least and min(ends[label]) <= most]


def _ends(arm: Arm, scored: bool) -> list[float]:
    """Where each seed ended; infinite where the loss is no number."""
    lasts = [trace.points[-1] for trace in arm.traces]
    if scored:
        return [point.val_score or 0.0 for point in lasts]
    return [point.train_loss if isfinite(point.train_loss) else inf for point in lasts]
