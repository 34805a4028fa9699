"""Two forwards in eval mode differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.data._labels import attempted, uses_targets
from probes.measurements import placed
from probes.results import Number, Severity

if TYPE_CHECKING:
    from probes.measurements import Context
    from probes.records.inspection import RandomCall

DOC = ProbeDoc(
    code="MOD211",
    name="nondeterministic-eval",
    stage=Stage.SMOKE,
    summary="In eval mode the model gives different outputs for the same input.",
    why="Validation and use are noisy, and weaker than the model could be: the randomness of training is still on.",
    fix="Pass training=self.training to F.dropout, and draw random numbers only `if self.training`.",
    requires=("nonfinite-activations",),
    consequences=("no-generalisation", "below-expected-curve"),
    before="x = F.dropout(x, 0.5)",
    after="x = F.dropout(x, 0.5, training=self.training)",
    references=("torch.nn.functional.dropout documentation: training defaults to True",),
)
RELATIVE_CHANGE = 1e-5  # of the largest output: above what threads that add in another order make


def run(ctx: Context) -> Findings:
    outputs = ctx.outputs()
    finite = outputs.first.nan_to_num(0.0, 0.0, 0.0)  # what is not finite has a probe of its own
    scale = float(finite.abs().max()) if finite.numel() else 0.0
    if outputs.first.shape == outputs.again.shape:
        difference = (outputs.first - outputs.again).abs().nan_to_num(0.0)
        change = float(difference.max()) if difference.numel() else 0.0
        if change <= RELATIVE_CHANGE * scale:
            return "two forwards in eval mode give the same output"
    else:
        change = float("inf")
    source = next(iter(sorted(ctx.random_calls(), key=lambda call: not _drops(call))), None)
    if source is None and ctx.pipeline.compute_loss is not None:
        raise Skip("the outputs differ, but compute_loss may itself give the model other inputs each time")
    by_intent = source is not None and not _drops(source) and _generates(ctx)
    yield DOC.finding(
        "two forwards in eval mode differ by up to {change:.3g} (largest output {scale:.3g}){cause}",
        change=change,
        scale=scale,
        cause=f": {source.function} draws random numbers" if source is not None else "",
        where=placed(ctx, source) if source is not None else (),
        evidence=(Number("largest difference of an output", change if change < float("inf") else None, "0"),),
        severity=Severity.NOTE if by_intent else None,
    )
    return ""


def _generates(ctx: Context) -> bool:
    """Sampling is part of what a generative model computes (a VAE's latent code); dropout in eval is part of nothing.

    Such a model gives back its inputs, whatever the labels.
    """
    if ctx.facts.task == "custom" or not uses_targets(ctx):
        return True
    attempt = attempted(ctx)
    return attempt is not None and any(_same(value, attempt.target) for value in attempt.inputs)


def _same(value: Any, target: Any) -> bool:
    """Whether the target is what the model was given, in whatever shape."""
    if not (hasattr(value, "flatten") and hasattr(target, "flatten")) or value.numel() != target.numel():
        return False
    return bool((value.flatten() == target.flatten()).all())


def _drops(call: RandomCall) -> bool:
    return "dropout" in call.function or call.function == "scaled_dot_product_attention"
