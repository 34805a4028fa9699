"""Samples of a batch influence each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.results import Number

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from probes.measurements import Context
    from probes.records.forward import Attempt

DOC = ProbeDoc(
    code="MOD207",
    name="batch-mixing",
    stage=Stage.SMOKE,
    summary="In eval mode, the output of a sample depends on the other samples of its batch.",
    why="The model can learn from its neighbours in the batch, which are others at every step and absent in use.",
    fix="Keep the batch axis apart: reshape with x.flatten(1) or x.view(x.size(0), -1), and pass batch_first=True to "
    "recurrent and attention layers that get (N, L, D).",
    requires=("nonfinite-activations",),
    consequences=(
        "padding-affects-output",
        "slow-to-learn",
        "cannot-overfit",
        "stuck-at-chance",
        "fails-on-reference-data",
        "no-generalisation",
        "ignored-input",
        "zero-gradient",
    ),
    before="x = x.permute(1, 0, 2).reshape(n, -1)",
    after="x = x.reshape(n, -1)",
    references=("Karpathy, A Recipe for Training Neural Networks: use backprop to chart dependencies",),
)
RELATIVE_CHANGE = 1e-4  # of the largest output; kernels that split a batch differently stay below 1e-6


def run(ctx: Context) -> Findings:
    import torch

    inputs = ctx.attempt().inputs
    size = _batch_size(ctx)
    if swapped := swapped_axes(ctx.attempt()):
        yield DOC.finding(
            "of a batch of {size} sequences the model puts out {count} rows, one for each step and not for each sample",
            size=size,
            count=swapped,
            where=ctx.forward_at(),
        )
        return ""
    statistics = [m for m in ctx.pipeline.model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    if any(not m.track_running_stats for m in statistics):
        raise Skip("a batch norm without running statistics mixes the batch by intent")
    if any(isinstance(x, torch.Tensor) and x.ndim and len(x) != size for x in inputs):
        raise Skip("not every input has the batch on its first axis")
    related = [x for x in inputs if isinstance(x, torch.Tensor) and x.shape == (size, size)]
    if related and len(inputs) > 1:
        raise Skip("an input of one row and one column per sample relates the samples, as the edges of a graph do")
    before = ctx.evaluate()
    if before.ndim < 1 or len(before) != size:
        raise Skip(f"the output, of shape {tuple(before.shape)}, does not have the batch ({size}) on its first axis")
    if before.ndim >= 3 and before.shape[1] == size:
        raise Skip("which axis of the output is the batch is not known")
    if ctx.facts.task == "custom" and before.ndim == 2 and before.shape[1] == size:
        raise Skip("an output of one column per sample compares samples by intent")
    kept = (size + 1) // 2

    def replace_the_rest(values: Sequence[Any]) -> list[Any]:
        return [_replaced(x, kept, size) if isinstance(x, torch.Tensor) else x for x in values]

    def replace_the_first(values: Sequence[Any]) -> list[Any]:
        flipped = [x.flip(0) if isinstance(x, torch.Tensor) and x.ndim else x for x in values]
        mixed = replace_the_rest(flipped)
        return [x.flip(0) if isinstance(x, torch.Tensor) and x.ndim else x for x in mixed]

    scale = float(before.abs().max())
    first, last = ctx.evaluate(replace_the_rest), ctx.evaluate(replace_the_first)
    change = max(
        float((first[:kept] - before[:kept]).abs().max()),
        float((last[size - kept :] - before[size - kept :]).abs().max()),
    )
    turned = ctx.inspection().over_batch
    if turned and change <= RELATIVE_CHANGE * scale:  # what it mixes may be the same for every sample
        yield DOC.finding(
            "{layer} ({type}) expects the batch on the second axis and is given it on the first: it runs over the "
            "samples of a batch as if they were steps of a sequence",
            layer=turned[0],
            type=type(dict(ctx.pipeline.model.named_modules())[turned[0]]).__name__,
            where=ctx.created_at(turned[0]),
        )
        return ""
    if change > RELATIVE_CHANGE * scale:
        yield DOC.finding(
            "with half of the batch replaced, the outputs of the other half change by {share:.1%} of the largest "
            "output",
            share=change / scale,
            where=ctx.created_at(turned[0]) if turned else ctx.forward_at(),
            evidence=(Number("largest change of an output", change, "0"),),
        )
        return ""
    moved = _by_order(ctx)
    if moved > RELATIVE_CHANGE * scale:
        yield DOC.finding(
            "the output of a sample depends on its place in the batch: with the samples in reverse order the outputs "
            "change by {share:.1%} of the largest one",
            share=moved / scale,
            where=ctx.forward_at(),
            evidence=(Number("largest change of an output", moved, "0"),),
        )
        return ""
    return f"with half of a batch of {size} replaced, the other half's outputs stay the same"


def _by_order(ctx: Context) -> float:
    """Largest change of an output with the samples in reverse order; 0 where the model draws at random, or wants them
    in an order of its own."""
    import torch

    def reverse(values: Sequence[Any]) -> list[Any]:
        return [x.flip(0) if isinstance(x, torch.Tensor) and x.ndim else x for x in values]

    if ctx.random_calls():  # what it draws goes by the place, a generator with a seed of its own included
        return 0.0
    if not all(isinstance(x, torch.Tensor) for x in ctx.attempt().inputs):  # a list would keep its order
        return 0.0
    try:
        after = ctx.evaluate(reverse)
    except Skip:  # sequences sorted by their length, say
        return 0.0
    before = ctx.evaluate()
    return float((after.flip(0) - before).abs().max()) if after.shape == before.shape else 0.0


def _batch_size(ctx: Context) -> int:
    import torch

    attempt = ctx.attempt()
    tensors = [x for x in attempt.inputs if isinstance(x, torch.Tensor) and x.ndim]
    if not tensors:
        raise Skip("the model's inputs are not tensors in order")
    size = len(tensors[0])
    target = attempt.target
    loader_size = getattr(ctx.pipeline.train, "batch_size", None)
    if isinstance(target, torch.Tensor) and target.ndim and len(target) != size:
        raise Skip("the targets do not have the batch on their first axis")
    if attempt.own_call and loader_size != size:
        raise Skip("which axis of what the loss gives the model is the batch is not known")
    if ctx.facts.task == "language-model" and tensors[0].ndim == 2 and loader_size != size:
        raise Skip("which axis of the tokens is the batch is not known")
    if size < 2:
        raise Skip("the batch has a single sample")
    return size


def _replaced(x: Any, kept: int, size: int) -> Any:
    """``x`` with the samples from ``kept`` on replaced by others of the batch."""
    import torch

    if not x.ndim:
        return x
    return torch.cat([x[:kept], x[:kept].flip(0)[: size - kept]])


def swapped_axes(attempt: Attempt) -> int:
    """L, where the loss fails on an output (L, C) of inputs (N, L, ...) and targets (N,): the axes were exchanged. 0
    where they were not."""
    output, target = next((call.input for call in attempt.loss_calls), None), attempt.target
    if attempt.failure is None or attempt.failure.phase != "loss" or output is None or output.ndim != 2:
        return 0
    size = len(target) if getattr(target, "ndim", 0) == 1 else len(output)
    shapes = [tuple(x.shape[:2]) for x in attempt.inputs if getattr(x, "ndim", 0) > 1]
    return len(output) if len(output) != size and (size, len(output)) in shapes else 0
