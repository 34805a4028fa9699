"""Losses of several batches are added up where their mean was meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.optimizer._own_step import events, of_each_step
from probes.results import Number, Severity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probes.measurements import Context
    from probes.records.loop import Loop, LoopEvent, StepLook
    from probes.records.updates import StepEvent

DOC = ProbeDoc(
    code="OPT609",
    name="accumulation-not-averaged",
    stage=Stage.SMOKE,
    also=(Stage.WATCH,),
    summary="Gradients of several batches are added up for one step without dividing by their number.",
    why="The step is as many times longer as batches are accumulated: the same as a learning rate that much higher, "
    "and it changes with the accumulation.",
    fix="Divide each loss by the number of batches before backward.",
    before="loss.backward()",
    after="(loss / accumulation_steps).backward()",
    consequences=("learning-rate-too-high", "diverging", "loss-spike", "exploding-gradient"),
    references=("torch.amp documentation: gradient accumulation",),
)
SUMMED = 1.5  # total weight of the losses behind one step: 1 for their mean, their number for their sum
# Their step does not grow with the gradient, so the sum does little harm.
SCALE_FREE = frozenset({"Adam", "AdamW", "NAdam", "RAdam", "Adamax", "Adagrad", "Adadelta", "RMSprop"})
SCALED = 64.0  # weight of one loss above which a loss scaler is at work, whose factor is not part of it

FEW_BATCHES = 8  # of a loader, below which the size of its batches is not known well enough from its length


def run(ctx: Context) -> Findings:
    """How much of each loss the user's own train_step passes on before it steps."""
    found = events(ctx)
    groups = [group for group in map(_micro_batches, of_each_step(found)) if len(group) > 1]
    if not groups:
        return "every step follows a single backward" if any(e.kind == "step" for e in found) else ""
    shares = [event.share for event in groups[0]]
    known = [share for share in shares if share is not None]
    if len(known) != len(shares) or max(known) > SCALED:
        raise Skip("how much of a loss enters a step cannot be told for this loss")
    total = sum(known)
    if total > SUMMED:
        yield DOC.finding(
            "{count} backward calls precede a step, and their losses add up to {total:.3g} times their mean",
            count=len(shares),
            total=total,
            where=groups[0][-1].where,
            evidence=(Number("weight of all losses of one step", total, "1"),),
        )
        return ""
    return f"{len(shares)} backward calls precede a step, and their losses are averaged"


def watched(loop: Loop) -> Findings:
    """How much of each loss the user's loop passes on, where several batches of a loader precede a step."""
    counted = False
    for optimizer in loop.optimizers:
        for look in optimizer.looks:
            parts = _parts(look) or _shared_out(look, loop)
            counted = counted or bool(look.events)
            shares = [event.share for event in parts if event.share is not None]
            if len(parts) < 2 or len(shares) != len(parts) or max(shares) > SCALED:
                continue
            if any(event.kind == "edit" for event in look.events):  # divided by hand, perhaps
                continue
            if (total := sum(shares)) > SUMMED:
                invariant = optimizer.kind in SCALE_FREE
                yield DOC.finding(
                    "{count} backward calls precede a step, and their losses add up to {total:.3g} times their mean",
                    severity=Severity.NOTE if invariant else None,
                    where=parts[-1].where,
                    evidence=(Number("weight of all losses of one step", total, "1"),),
                    count=len(parts),
                    total=total,
                )
                return ""
            return f"{len(parts)} backward calls precede a step, and their losses are averaged"
    if not counted:
        raise Skip("no step was seen from beginning to end")
    return "no step follows the backward calls of several batches"


def _micro_batches(group: Sequence[StepEvent]) -> list[StepEvent]:
    """The backward calls of one step that stand for parts of a larger batch: one for each call of train_step, or
    several that share out the batch of one call. Several losses of one batch (as of a GAN) are no accumulation."""
    calls = [event for event in group if event.kind == "call"]
    backwards = [event for event in group if event.kind == "backward"]
    if len(calls) > 1:
        return backwards if len(backwards) == len(calls) else []
    shared_out = bool(calls) and sum(event.size for event in backwards) == calls[0].size
    return backwards if shared_out else []


def _parts(look: StepLook) -> list[LoopEvent]:
    """The backward calls of one step, one for each batch of the same loader; none where a batch has several losses."""
    backwards = [event for event in look.events if event.kind == "backward" and event.touched]
    batches = [event for event in look.events if event.kind == "batch"]
    loaders = {event.loader for event in backwards}
    if len(loaders) != 1 or -1 in loaders:
        return []
    return backwards if sum(event.loader in loaders for event in batches) == len(backwards) else []


def _shared_out(look: StepLook, loop: Loop) -> list[LoopEvent]:
    """The backward calls of one step that share out the samples of one batch; none where each is on the whole of it."""
    backwards = [event for event in look.events if event.kind == "backward" and event.touched]
    loader = loop.loaders[look.loader] if look.loader >= 0 else None
    if loader is None or len(backwards) < 2 or not loader.samples or (loader.batches or 0) < FEW_BATCHES:
        return []
    batches, samples = loader.batches or 0, sum(event.size for event in backwards)
    whole = loader.samples / (batches + 1) <= samples <= loader.samples / (batches - 1)  # the last one may be smaller
    return backwards if whole and sum(e.kind == "batch" for e in look.events) == 1 else []
