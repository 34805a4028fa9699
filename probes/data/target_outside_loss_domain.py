"""Targets that the loss has no meaning for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage

if TYPE_CHECKING:
    from torch import Tensor

    from probes.measurements import Context
    from probes.records.forward import Attempt, LossCall

SLACK = 1e-4  # rounding of probabilities in half precision

DOC = ProbeDoc(
    code="DAT123",
    name="target-outside-loss-domain",
    stage=Stage.SMOKE,
    summary="The loss is given values that it is not defined for.",
    why=(
        "Binary cross-entropy wants targets from 0 to 1, kl_div log-probabilities; for anything else the "
        "loss has no minimum."
    ),
    fix="Scale the targets to the range that the loss is defined for; give kl_div the output of log_softmax.",
    before="F.kl_div(probabilities, target)",
    after="F.kl_div(log_probabilities, target, reduction='batchmean')",
    references=("torch.nn.BCEWithLogitsLoss, torch.nn.KLDivLoss and torch.nn.PoissonNLLLoss documentation",),
    consequences=("nonfinite-loss", "loss-sign-flipped", "initial-loss-off", "cannot-overfit"),
)


def run(ctx: Context) -> Findings:
    """Every loss call of the first batch; targets of the whole scan where they are given as they are."""
    attempt = ctx.attempt()
    facts, found = [], False
    for call in attempt.loss_calls:
        for what, values, low, high in _domains(call):
            if not values.numel():
                continue
            least, most = float(values.min()), float(values.max())
            if what == "target":
                least, most = _widened(ctx, attempt, least, most)
            if least < low - SLACK or most > high + SLACK:
                found = True
                yield DOC.finding(
                    "{function} was given {what} values from {least:.3g} to {most:.3g}, expected {low:g} to {high:g}",
                    where=call.where,
                    function=call.function,
                    what=what,
                    least=least,
                    most=most,
                    low=low,
                    high=high,
                )
            else:
                facts.append(f"{call.function}: {what} {least:.3g} to {most:.3g}")
    if not found and attempt.failure is not None and attempt.failure.name == DOC.name:
        yield attempt.failure.finding(DOC)
    if not found and not facts:
        raise Skip("the loss has no bounded domain that is known")
    return ", ".join(facts)


def _domains(call: LossCall) -> Iterator[tuple[str, Tensor, float, float]]:
    """(what, values, lowest, highest) for each argument with a domain."""
    if call.function.startswith("binary_cross_entropy"):
        yield "target", call.target.float(), 0.0, 1.0
    elif call.function == "kl_div":
        yield "input", call.input, -math.inf, 0.0
        log_target = bool(call.options.get("log_target"))
        yield "target", call.target, -math.inf if log_target else 0.0, 0.0 if log_target else 1.0
    elif call.function == "poisson_nll_loss":
        yield "target", call.target.float(), 0.0, math.inf
    elif call.function == "cross_entropy" and call.target.is_floating_point():
        yield "target", call.target, 0.0, 1.0


def _widened(ctx: Context, attempt: Attempt, least: float, most: float) -> tuple[float, float]:
    """The range over the whole scan, where the loss is given the targets of the batch as they are."""
    target = attempt.target
    if (
        not hasattr(target, "numel")
        or not target.numel()
        or (float(target.min()), float(target.max())) != (least, most)
    ):
        return least, most
    scan = ctx.scan("train")
    if scan.label_min is None or scan.label_max is None:
        return least, most
    return min(least, scan.label_min), max(most, scan.label_max)
