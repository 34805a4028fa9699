"""The loss is a sum over the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.class_scores import NON_NEGATIVE, PICKS_ONE, mean_loss, ran
from probes.results import Number, Severity

if TYPE_CHECKING:
    from probes.measurements import Context
    from probes.records.forward import Attempt

DOC = ProbeDoc(
    code="LOS405",
    name="loss-summed",
    stage=Stage.SMOKE,
    severity=Severity.WARNING,
    summary="The loss is summed over the samples of the batch.",
    why="Gradients grow with the batch size: the learning rate is in effect that many times larger, and changes when "
    "the "
    "batch size does.",
    fix='Use reduction="mean" (the default), or divide by the number of samples.',
    consequences=(
        "initial-loss-off", "exploding-gradient", "learning-rate-too-high", "diverging", "slow-to-learn",
        "cannot-overfit", "stuck-at-chance", "fails-on-reference-data", "nonfinite-training",
    ),
    before='nn.CrossEntropyLoss(reduction="sum")',
    after="nn.CrossEntropyLoss()",
    references=("torch.nn.CrossEntropyLoss documentation, argument reduction",),
)  # fmt: skip
# An update of these does not depend on the gradient's scale, so little harm is done.
SCALE_FREE = (
    "Adam",
    "AdamW",
    "NAdam",
    "RAdam",
    "Adamax",
    "Adagrad",
    "RMSprop",
    "Adadelta",
    "Adafactor",
    "Lion",
    "Rprop",
)
MIN_SAMPLES = 4  # below, a sum and a mean are too near to tell
TOLERANCE = 0.02  # relative, of the loss against samples times the mean
MIN_FALLBACK = 16  # samples: contrastive losses grow with small batches too, but only with the log of large ones
DOUBLE = (1.9, 2.1)  # a whole batch's loss against its first half's, where no loss of torch is called


def run(ctx: Context) -> Findings:
    attempt = ran(ctx)
    if attempt.loss is None:
        raise Skip("the loss is not a single number")
    times = _times(attempt)
    if times is None:
        raise Skip(
            "the loss is not a known function of one call of torch's, and the batch is small or cannot be halved"
        )
    if times < MIN_SAMPLES:
        return f"loss {attempt.loss:.4g}: a mean over the batch"
    optimizer = type(ctx.pipeline.optimizer).__name__
    harmless = optimizer in SCALE_FREE or ctx.pipeline.clip_grad_norm is not None
    yield DOC.finding(
        "the loss of the batch, {loss:.4g}, is a sum of {terms:.0f} terms{note}",
        loss=attempt.loss,
        terms=times,
        note=f"; under {optimizer} this changes the scale of the loss, hardly the updates" if harmless else "",
        where=attempt.loss_calls[0].where if attempt.loss_calls else (),
        evidence=(Number("loss per sample", attempt.loss / times),),
        severity=Severity.NOTE if harmless else None,
    )
    return ""


def _times(attempt: Attempt) -> float | None:
    """How many times its mean over the samples the loss is; None if that cannot be told."""
    import torch

    assert attempt.loss is not None
    if len(attempt.loss_calls) == 1 and attempt.loss_calls[0].function in (*NON_NEGATIVE, "nll_loss"):
        call = attempt.loss_calls[0]
        mean = mean_loss(call)
        if not mean:
            return None
        terms = call.target.numel() if call.input.shape != call.target.shape else call.input.numel()
        if call.function in PICKS_ONE and call.input.shape == call.target.shape:
            terms = call.input.numel() // call.input.shape[-1 if call.input.ndim < 2 else 1]
        if call.function in PICKS_ONE and isinstance(call.options.get("weight"), torch.Tensor):
            return float(terms) if call.options.get("reduction") == "sum" else 1.0
        ratio = attempt.loss / mean
        return float(terms) if abs(ratio / terms - 1) < TOLERANCE else 1.0
    samples = next((len(x) for x in attempt.inputs if isinstance(x, torch.Tensor) and x.ndim), 0)
    if attempt.loss_calls or samples < MIN_FALLBACK or not attempt.half_batch_loss:
        return None
    low, high = DOUBLE
    return float(samples) if low < attempt.loss / attempt.half_batch_loss < high else 1.0
