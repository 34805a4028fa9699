"""Units that start alike and stay alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.results import Severity, Table

if TYPE_CHECKING:
    from collections.abc import Collection

    from probes.measurements import Context
    from probes.records.updates import ParameterRecord

DOC = ProbeDoc(
    code="MOD218",
    name="symmetric-initialisation",
    stage=Stage.SMOKE,
    summary="All units of a layer start with the same weights and stay the same.",
    why="Units with equal weights get equal gradients: the layer acts as one unit, however wide it is.",
    fix="Start with random weights (the layers' own initialisation); constants are for biases and for the last layer "
    "of a "
    "residual branch.",
    consequences=(
        "zero-gradient", "parameters-not-updated", "dead-relu", "slow-to-learn", "cannot-overfit", "stuck-at-chance",
        "fails-on-reference-data", "predicts-one-class",
    ),
    before="nn.init.constant_(layer.weight, 0.01)",
    after="nn.init.kaiming_normal_(layer.weight)",
    references=("Goodfellow et al. 2016, Deep Learning, section 8.4: breaking symmetry",),
)  # fmt: skip

SEVERAL = 2  # layers that start alike: one may well be meant to average


def run(ctx: Context) -> Findings:
    updates = ctx.updates()
    if not updates.stepped:
        raise Skip("the optimizer made no step")
    gains = _gains(ctx)
    found = [
        record
        for record in updates.parameters
        if record.identical_rows == (True, True) and record.name not in gains and _judged(record)
    ]
    if found:
        first = found[0]
        yield DOC.finding(
            "{count} layers have equal weights in all units, still after {steps} updates; the first is {first} {shape}",
            count=len(found),
            steps=updates.steps,
            first=first.name,
            shape=str(tuple(first.shape)),
            where=ctx.created_at(first.name.rpartition(".")[0]),
            evidence=(Table(("parameter", "shape"), [(r.name, str(tuple(r.shape))) for r in found[:20]]),),
        )
        return ""
    started = _started_alike(ctx, {record.name for record in updates.parameters if record.identical_rows[0]})
    if len(started) >= SEVERAL:
        yield DOC.finding(
            "{count} layers start with equal weights in all units, which only biases or dropout tell apart; the "
            "first is {first}",
            severity=Severity.WARNING,
            count=len(started),
            first=started[0],
            where=ctx.created_at(started[0].rpartition(".")[0]),
        )
        return ""
    return f"no layer keeps equal weights in all units over {updates.steps} updates"


def _gains(ctx: Context) -> set[str]:
    """Parameters of one number for each unit that are no layer's weight: such scales start alike everywhere."""
    import torch

    layers = (torch.nn.Linear, torch.nn.modules.conv._ConvNd)
    return {
        f"{path}.{name}".lstrip(".")
        for path, module in ctx.pipeline.model.named_modules()
        for name, p in module.named_parameters(recurse=False)
        if p.ndim > 1 and p.shape[1:].numel() == 1 and not (name == "weight" and isinstance(module, layers))
    }


def _started_alike(ctx: Context, alike: Collection[str]) -> list[str]:
    """Weights of linear layers and convolutions that are one row repeated, and not zero, before any update."""
    import torch

    return [
        f"{path}.weight"
        for path, module in ctx.pipeline.model.named_modules()
        if isinstance(module, (torch.nn.Linear, torch.nn.modules.conv._ConvNd))
        and f"{path}.weight" in alike
        and module.weight.shape[1] > 1  # a filter for each channel may well be the same, to begin with an average
        and bool(module.weight.any())
    ]


def _judged(record: ParameterRecord) -> bool:
    """Whether a step could have told the units apart: optimised, with a gradient, and moved unless that is 0."""
    norms = [norm for norm in record.gradients if norm is not None]
    if not (record.requires_grad and record.optimized and len(norms) == len(record.gradients)):
        return False
    return not any(norms) or any(record.updates)
