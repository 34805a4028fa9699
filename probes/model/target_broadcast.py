"""Output and target are broadcast against each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Stage
from probes.class_scores import ran

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="MOD202",
    name="target-broadcast",
    stage=Stage.SMOKE,
    summary="Output and target have different shapes, and the loss compares every output with every target.",
    why="The best answer is then the mean of the targets for every sample: the loss falls a little and stays there.",
    fix="Give both the same shape: squeeze the output, or unsqueeze the target.",
    consequences=("slow-to-learn", "cannot-overfit", "no-generalisation", "plateau"),
    before="loss = F.mse_loss(model(x), y)              # (N, 1) against (N,)",
    after="loss = F.mse_loss(model(x).squeeze(1), y)   # (N,) against (N,)",
    references=("Broadcasting semantics, PyTorch documentation",),
)
ELEMENTWISE = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "kl_div", "poisson_nll_loss", "soft_margin_loss")


def run(ctx: Context) -> Findings:
    import torch

    attempt = ran(ctx)
    pairs = [call for call in attempt.loss_calls if call.function in ELEMENTWISE]
    for call in (*pairs, *attempt.broadcasts):
        shapes = tuple(call.input.shape), tuple(call.target.shape)
        # One side may be meant to be repeated (a single target for all); both at once never is.
        pairs_compared = torch.broadcast_shapes(*shapes).numel()  # type: ignore[no-untyped-call]
        if pairs_compared > max(call.input.numel(), call.target.numel()):
            yield DOC.finding(
                "the loss compares an output of shape {output} with a target of shape {target}: {pairs} pairs of "
                "{samples}",
                output=str(shapes[0]),
                target=str(shapes[1]),
                pairs=pairs_compared,
                samples=max(call.input.numel(), call.target.numel()),
                where=call.where,
            )
            return ""
    if pairs:
        return f"output {tuple(pairs[0].input.shape)}, target {tuple(pairs[0].target.shape)}"
    return "no loss that broadcasts is called"
