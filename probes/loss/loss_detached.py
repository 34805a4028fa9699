"""The loss cannot be differentiated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.class_scores import ran

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probes.measurements import Context
    from probes.records.loop import Loop
    from probes.results import Where

DOC = ProbeDoc(
    code="LOS403",
    name="loss-detached",
    stage=Stage.SMOKE,
    also=(Stage.WATCH,),
    summary="The loss has lost its connection to the parameters.",
    why="backward() fails, or has nothing to do: no parameter gets a gradient.",
    fix="Keep tensors from the model to the loss: no .item(), .detach(), .numpy(), argmax or torch.tensor(...) "
    "between.",
    consequences=(
        "graph-cut",
        "zero-gradient",
        "unused-parameters",
        "stuck-at-chance",
        "parameters-not-updated",
        "cannot-overfit",
        "fails-on-reference-data",
    ),
    before="return torch.tensor(loss.item())",
    after="return loss",
)


LEAST_LOOKS = 3  # steps of a watched loop, each with a backward


def run(ctx: Context) -> Findings:
    attempt = ran(ctx)
    if ctx.facts.custom_step and (places := _rootless(ctx)):
        yield DOC.finding("backward is called on a tensor without a graph: no parameter gets a gradient", where=places)
        return ""
    if attempt.loss is None:
        raise Skip("the loss is not a single number")
    if attempt.loss_has_graph:
        if attempt.output_has_graph and attempt.output_gradient is None and _reaches_nothing(ctx):
            yield DOC.finding(
                "the loss has a graph of its own, but none that leads back to the model: no parameter gets a gradient",
                where=attempt.loss_calls[-1].where if attempt.loss_calls else (),
            )
            return ""
        return "the loss can be differentiated"
    if not any(p.requires_grad for p in ctx.pipeline.model.parameters()):
        return "no parameter is trainable, so there is nothing to differentiate: see everything-frozen"
    if attempt.output_has_graph is False:
        return "the connection is lost inside the model: see graph-cut"
    if ctx.facts.custom_step:
        return "the pipeline's own step does the backward"
    kind = "a tensor without a graph" if attempt.loss_shape is not None else f"a {attempt.loss_type}, not a tensor"
    by = " after argmax" if "argmax" in attempt.called_functions else ""
    yield DOC.finding(
        "the loss is {kind}{by}, although the model's output has a graph",
        kind=kind,
        by=by,
        where=attempt.loss_calls[-1].where if attempt.loss_calls else (),
    )
    return ""


def _rootless(ctx: Context) -> Sequence[Where]:
    """The lines of the backward calls of the user's own step, where each was of a tensor that nothing led to."""
    backwards = [event for event in ctx.updates().events if event.kind == "backward"]
    return backwards[-1].where if backwards and all(event.rootless for event in backwards) else ()


def watched(loop: Loop) -> Findings:
    """Backward is called before every step, and no tensor of any optimizer ever had a gradient."""
    stepped = [optimizer for optimizer in loop.optimizers if optimizer.looks]
    if not stepped:
        raise Skip("no optimizer was stepped")
    calls = [[e for e in look.events if e.kind == "backward"] for o in stepped for look in o.looks if look.events]
    if any(optimizer.fed for optimizer in stepped):
        return "the losses lead back to what is trained"
    if any(optimizer.strays or optimizer.missing or optimizer.apart for optimizer in stepped):
        raise Skip("the optimizers hold other tensors than those of the models that run")
    if sum(bool(found) for found in calls) < LEAST_LOOKS or any(e.touched for found in calls for e in found):
        raise Skip("too few steps with a backward were looked at")
    first = next(found for found in calls if found)
    yield DOC.finding(
        "backward was called before each of the {looks} steps looked at, and no tensor in an optimizer ever had a "
        "gradient: the loss has no graph that leads back to the model",
        where=(*first[0].where, *stepped[0].step_at),
        looks=len(calls),
    )
    return ""


def _reaches_nothing(ctx: Context) -> bool:
    """Whether no trainable parameter gets a gradient in any of the first updates."""
    trainable = [p for p in ctx.updates().parameters if p.requires_grad]
    return bool(trainable) and all(norm is None for p in trainable for norm in p.gradients)
