"""A custom autograd function whose backward is not the derivative of its forward."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.results import Table

if TYPE_CHECKING:
    from probes.measurements import Context
    from probes.records.forward import CustomFunction

DOC = ProbeDoc(
    code="GRD507",
    name="wrong-custom-backward",
    stage=Stage.SMOKE,
    summary="A torch.autograd.Function returns a gradient that is not the derivative of its forward.",
    why="Training follows the wrong direction. It may still learn a little, so that nothing looks broken.",
    fix="Correct backward, and check it with torch.autograd.gradcheck in float64.",
    before="return grad_output * x  # forward: x * x",
    after="return grad_output * 2 * x",
    consequences=("slow-to-learn", "cannot-overfit", "stuck-at-chance", "vanishing-gradient", "exploding-gradient"),
    references=("torch.autograd.gradcheck documentation",),
)
WRONG = 0.01  # relative difference along a direction; a right backward differs by 1e-6
FLAT = 1e-9  # change of a forward that rounds or steps: its gradient can only be a stand-in


def run(ctx: Context) -> Findings:
    """Finite differences along random directions in float64."""
    found = ctx.custom_functions()
    if not found:
        raise Skip("there is no autograd function of your own that can be checked in float64")
    for function in found:
        if _deliberate(function):
            continue
        pairs = list(zip(function.numeric, function.analytic, strict=True))
        errors = [abs(n - a) / max(abs(n), abs(a), 1e-12) for n, a in pairs]
        if min(errors) > WRONG:
            yield DOC.finding(
                "the backward of {name} differs from its forward's derivative by {error:.0%} or more in {count} "
                "directions of {count}",
                name=function.name,
                error=min(errors),
                count=len(errors),
                where=function.where,
                evidence=(Table(("finite difference", "backward"), pairs, "Derivative along random directions"),),
            )
            return ""
    checked = [function.name for function in found if not _deliberate(function)]
    if not checked:
        raise Skip("your autograd functions return a stand-in for their derivative on purpose")
    return f"{', '.join(checked)}: backward agrees with finite differences"


def _deliberate(function: CustomFunction) -> bool:
    """Straight-through estimators and gradient reversal mean to return something else."""
    return function.identity or all(abs(n) <= FLAT for n in function.numeric)
