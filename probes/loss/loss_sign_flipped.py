"""Training goes uphill."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.class_scores import NON_NEGATIVE, mean_loss, ran
from probes.results import Number

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="LOS411",
    name="loss-sign-flipped",
    stage=Stage.SMOKE,
    summary="The training makes a loss larger that should become smaller.",
    why="The model learns to be wrong: the reported loss falls while accuracy falls below chance.",
    fix="Remove the minus sign (torch's losses are already negative log-likelihoods), or maximize=True from the "
    "optimizer.",
    consequences=(
        "diverging", "metric-loss-disagree", "nonfinite-training", "slow-to-learn", "cannot-overfit", "stuck-at-chance",
        "fails-on-reference-data", "no-generalisation",
    ),
    before="loss = -F.cross_entropy(model(x), y)",
    after="loss = F.cross_entropy(model(x), y)",
)  # fmt: skip
TOLERANCE = 0.05  # relative, of the loss against the negative of the one call it is made of


def run(ctx: Context) -> Findings:
    attempt = ran(ctx)
    if attempt.loss is None or ctx.facts.custom_step:
        raise Skip("the pipeline's own step does the backward, unseen" if ctx.facts.custom_step else "there is no loss")
    known = [call for call in attempt.loss_calls if call.function in NON_NEGATIVE]
    if len(known) != 1 or len(attempt.loss_calls) != 1:  # adversarial and combined losses may well subtract
        raise Skip("the loss is not made of a single known loss of torch")
    value = mean_loss(known[0])
    if value is None or value <= 0:
        raise Skip(f"{known[0].function} gives no positive value on the first batch")
    maximize = [group for group in getattr(ctx.pipeline.optimizer, "param_groups", ()) if group.get("maximize")]
    summed = value * known[0].input.numel()
    negative = attempt.loss < 0 and -attempt.loss > (1 - TOLERANCE) * value and -attempt.loss < (1 + TOLERANCE) * summed
    if negative and not maximize and _rises_with_it(ctx):
        return f"{known[0].function} enters the loss with its own sign, whatever is added to it"
    if negative != bool(maximize):
        yield DOC.finding(
            "{how}: {function} is {value:.4g} on the first batch, what is made smaller is {loss:.4g}",
            how="the optimizer is set to maximize" if maximize else "the loss is negative",
            function=known[0].function,
            value=value,
            loss=-attempt.loss if maximize else attempt.loss,
            where=ctx.optimizer_at() if maximize else known[0].where,
            evidence=(Number("loss", attempt.loss, "0 or more"),),
        )
        return ""
    return f"{known[0].function} is {value:.4g} and is made smaller"


def _rises_with_it(ctx: Context) -> bool:
    """Whether the loss holds more than the known one, and grows with that."""
    try:
        return min(ctx.loss_parts().weights) > 0
    except Skip:
        return False
