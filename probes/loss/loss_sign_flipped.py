"""Training goes uphill."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.class_scores import NON_NEGATIVE, are_negated, mean_loss, ran, rows
from probes.data._labels import IGNORE_INDEX
from probes.optimizer._own_step import events, of_each_step
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
OPPOSED = -0.3  # cosine; a loss that rewards the right answer, however weighted or regularised, is above 0
SAME = 1e-3  # relative, between the factors of a loss from step to step
TOLERANCE = 0.05  # relative, of the loss against the negative of the one call it is made of


def run(ctx: Context) -> Findings:
    if ctx.facts.custom_step:
        return (yield from _own_step(ctx))
    attempt = ran(ctx)
    if attempt.loss is None:
        raise Skip("there is no loss")
    against = _against_the_targets(ctx)
    if against is not None and against < OPPOSED and not _maximizes(ctx):
        yield DOC.finding(
            "a step of this loss makes the right answers less likely: its gradient at the outputs points away "
            "from that "
            "of a plain {task} loss (cosine {cosine:.2f})",
            task=ctx.facts.task,
            cosine=against,
            where=next((call.where for call in attempt.loss_calls if call.where), ()),
            evidence=(Number("cosine with the gradient of a plain loss", against, "above 0"),),
        )
        return ""
    negated = [call for call in attempt.loss_calls if call.function == "nll_loss" and are_negated(rows(call.input))]
    if negated and attempt.loss < 0 and not _maximizes(ctx):
        yield DOC.finding(
            "nll_loss, which takes the minus itself, is given log-probabilities that have it already: the loss is "
            "{loss:.4g}",
            loss=attempt.loss,
            where=negated[0].where,
            evidence=(Number("loss", attempt.loss, "0 or more"),),
        )
        return ""
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


def _own_step(ctx: Context) -> Findings:
    """By what part of torch's loss, and with which sign, a ``train_step`` of the user's passes back before it steps.
    One with more in its loss may well subtract; one that weighs a loss anew each time does so by a reward."""
    steps = of_each_step(events(ctx))
    backwards = [event for step in steps for event in step if event.kind == "backward"]
    shares = [event.share for event in backwards if event.share is not None]
    factors = set(map(abs, shares))
    always = bool(shares) and max(shares) - min(shares) <= SAME * max(factors) and max(factors) <= 1 + SAME
    if not always or not all(event.whole for event in backwards):
        raise Skip("what a step passes back is not one known loss of torch, always by the same factor")
    largest = max(share if not _maximizes(ctx) else -share for share in shares)
    if largest < 0:
        yield DOC.finding(
            "train_step makes its loss larger: what it passes back changes by {share:.3g} times what the loss does",
            share=largest,
            where=backwards[0].where,
            evidence=(Number("change of what is made smaller with the loss", largest, "above 0"),),
        )
        return ""
    return "what train_step makes smaller grows with its loss"


def _rises_with_it(ctx: Context) -> bool:
    """Whether the loss holds more than the known one, and grows with that."""
    try:
        return min(ctx.loss_parts().weights) > 0
    except Skip:
        return False


def _maximizes(ctx: Context) -> bool:
    return any(group.get("maximize") for group in getattr(ctx.pipeline.optimizer, "param_groups", ()))


def _against_the_targets(ctx: Context) -> float | None:
    """Cosine between the loss's gradient at the outputs and that of the plain loss of the task; None where the task has
    no plain loss for such outputs and targets."""
    import torch
    from torch.nn import functional as F

    attempt = ctx.attempt()
    gradient, output, target = attempt.output_gradient, attempt.output, attempt.target
    if gradient is None or output is None or not isinstance(target, torch.Tensor) or not bool(gradient.any()):
        return None
    asked = output.detach().float().clone().requires_grad_(True)
    if (
        ctx.facts.task == "classification"
        and output.ndim == 2
        and output.shape[1] > 1
        and target.shape == output.shape[:1]
    ):
        if target.is_floating_point() or int(target.min()) < 0 or int(target.max()) >= output.shape[1]:
            return None
        plain = F.cross_entropy(asked, target.long())
    elif ctx.facts.task == "segmentation" and target.shape == (len(output), *output.shape[2:]):
        known = (target >= 0) & (target < output.shape[1])  # the rest is void, whatever its number
        if target.is_floating_point() or not bool(known.any()):
            return None
        plain = F.cross_entropy(asked, torch.where(known, target.long(), IGNORE_INDEX))
    elif ctx.facts.task == "regression" and output.shape == target.shape:
        plain = F.mse_loss(asked, target.float())
    elif ctx.facts.task == "multilabel" and output.shape == target.shape:
        plain = F.binary_cross_entropy_with_logits(asked, target.float().clamp(0, 1))
    else:
        return None
    (usual,) = torch.autograd.grad(plain, [asked])
    if not bool(torch.isfinite(gradient).all()) or not bool(usual.any()):
        return None
    return float(F.cosine_similarity(gradient.float().flatten(), usual.flatten(), dim=0))
