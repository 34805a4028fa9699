"""A gradient that is present and exactly zero."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, Inconclusive, ProbeDoc, Stage
from probes.gradient._silent import of_first_batches
from probes.results import Severity

if TYPE_CHECKING:
    from probes.measurements import Context

SHOWN = 5  # parameters named in the message

DOC = ProbeDoc(
    code="GRD503",
    name="zero-gradient",
    stage=Stage.SMOKE,
    summary="The gradient of some weights is exactly zero, and stays so.",
    why=(
        "Something between these weights and the loss is flat: dead ReLUs, a constant input, a rounding, a "
        "product with zero."
    ),
    fix=(
        "Follow the forward from the named weights towards the loss, and look for outputs that are constant "
        "or all zero."
    ),
    consequences=("parameters-not-updated", "cannot-overfit", "stuck-at-chance", "slow-to-learn", "vanishing-gradient"),
)


def run(ctx: Context) -> Findings:
    """Zero in each of the first updates, and in a model whose parameters were all moved off zero.

    Biases are left out: one before a normalisation or a softmax is without effect, and harmless.
    """
    updates = ctx.updates()
    disturbed = of_first_batches(ctx)
    if not disturbed and sum(lr > 0 for lr in updates.lrs) < updates.steps - 1:
        raise Inconclusive("the learning rate is still 0, so layers that start at zero cannot be told from dead ones")
    judged = [
        p
        for p in updates.parameters
        if p.requires_grad and "bias" not in p.name.rpartition(".")[2] and any(norm is not None for norm in p.gradients)
    ]
    dead = [
        p.name
        for p in judged
        if all(norm is None or norm == 0 for norm in p.gradients) and disturbed.get(p.name, 0.0) == 0.0
    ]
    blank = [layer.path for layer in ctx.inspection().layers if layer.input_std == 0.0]
    fed_nothing = [name for name in dead if name.rpartition(".")[0] in blank]
    if dead and len(fed_nothing) == len(dead):
        return f"only what is fed the same for every sample has no gradient: {', '.join(dead)}; see ignored-input"
    if dead:
        # Without effect, and harmless: the outputs follow, but a loss made of differences (a ranking, say) does not.
        cancels = len(dead) < len(judged) and not ctx.facts.custom_step and ctx.cancels_in_loss(dead)
        yield DOC.finding(
            "the gradient of {count} of {total} weight tensors is exactly zero: {names}"
            + ("; they move the outputs, but cancel in the loss" if cancels else ""),
            severity=Severity.NOTE if cancels else None,
            where=ctx.created_at(dead[0].rpartition(".")[0]),
            count=len(dead),
            total=len(judged),
            names=", ".join(dead[:SHOWN]) + (f" and {len(dead) - SHOWN} more" if len(dead) > SHOWN else ""),
            steps=updates.steps,
        )
    return f"{len(judged)} weight tensors have a gradient other than zero"
