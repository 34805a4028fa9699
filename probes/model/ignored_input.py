"""An input without influence on the output."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.results import Severity

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from torch import Tensor

    from probes.measurements import Context

DOC = ProbeDoc(
    code="MOD212",
    name="ignored-input",
    stage=Stage.SMOKE,
    severity=Severity.WARNING,
    summary="The output does not change when an input of the model does.",
    why="What the model does not look at it cannot use: a forgotten argument, an overwritten variable, a mask never "
    "applied.",
    fix="Follow the input through forward up to the place where it gets lost.",
    consequences=(
        "slow-to-learn",
        "cannot-overfit",
        "stuck-at-chance",
        "fails-on-reference-data",
        "no-generalisation",
    ),
)


def run(ctx: Context) -> Findings:
    import torch

    inputs, target = ctx.attempt().inputs, ctx.attempt().target

    def same(x: Tensor) -> bool:
        """Whether ``x`` is the target, which a model may take to compute its loss."""
        return isinstance(target, torch.Tensor) and torch.equal(x, target)

    # What does not have the samples on its first axis (the edges of a graph, say) cannot be exchanged between them.
    attempt = ctx.attempt()
    if attempt.own_call and (attempt.output is None or ctx.outputs().first.shape != attempt.output.shape):
        raise Skip("in evaluation the model puts out something else")
    size = next((len(x) for x in inputs if isinstance(x, torch.Tensor) and x.ndim), 0)
    tested = [
        index
        for index, x in enumerate(inputs)
        if isinstance(x, torch.Tensor)
        and x.ndim
        and len(x) == size
        and size > 1
        and not torch.equal(x, x.roll(1, 0))
        # Of what the loss itself gives, boxes or a true prefix may be left aside in evaluation; not so a number each.
        and (not ctx.attempt().own_call or index == 0 or x.numel() == size)
        and not same(x)
    ]
    if not tested:
        raise Skip("no input of the first batch is a tensor that varies between samples")
    whole = ctx.attempt().output_type != "Tensor"  # one output of several may follow one input alone
    before = ctx.evaluate(whole=whole)
    if not bool(torch.isfinite(before).all()):
        raise Skip("the output is not finite")
    for index in tested:
        if torch.equal(ctx.evaluate(_roll(index), whole=whole), before):
            yield DOC.finding(
                "with the samples of input {index} of {count} (shape {shape}) exchanged, every output stays the same",
                index=index + 1,
                count=len(inputs),
                shape=str(tuple(inputs[index].shape)),
                where=ctx.forward_at(),
                severity=Severity.NOTE if _tells_lengths(inputs, index) else None,
            )
    return f"{len(tested)} of {len(inputs)} inputs were exchanged between samples; the output follows"


def _tells_lengths(inputs: Sequence[Any], index: int) -> bool:
    """Whether an input only counts what another one holds beside its padding, which a model may read off that."""
    import torch

    lengths = inputs[index]
    rows = [x for x in inputs if isinstance(x, torch.Tensor) and x.ndim == 2 and not x.is_floating_point()]
    if lengths.ndim != 1 or lengths.is_floating_point():
        return False
    return any(len(x) == len(lengths) and torch.equal((x != 0).sum(1), lengths.long()) for x in rows)


def _roll(index: int) -> Callable[[Sequence[Any]], list[Any]]:
    def change(values: Sequence[Any]) -> list[Any]:
        return [x.roll(1, 0) if position == index else x for position, x in enumerate(values)]

    return change
