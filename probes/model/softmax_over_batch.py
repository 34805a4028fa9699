"""Softmax over the batch instead of the classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.class_scores import PICKS_ONE, SUM_TOLERANCE, calls
from probes.measurements import placed
from probes.results import Grade

if TYPE_CHECKING:
    from torch import Tensor

    from probes.measurements import Context
    from probes.records.forward import LossCall

DOC = ProbeDoc(
    code="MOD206",
    name="softmax-over-batch",
    stage=Stage.SMOKE,
    summary="Softmax is taken over the samples of the batch, not over the classes.",
    why="Every sample's scores then depend on the other samples of its batch, and a class is shared out among them.",
    fix="Use dim=1 (or dim=-1), the axis of the classes; for CrossEntropyLoss leave softmax out altogether.",
    consequences=(
        "batch-mixing", "bce-on-probabilities", "activation-on-logits", "softmax-before-cross-entropy",
        "initial-loss-off", "slow-to-learn", "cannot-overfit",
        "stuck-at-chance", "fails-on-reference-data", "no-generalisation",
    ),
    before="return F.log_softmax(x, dim=0)",
    after="return F.log_softmax(x, dim=1)",
    references=("torch.nn.functional.softmax documentation, argument dim",),
)  # fmt: skip
BINARY = ("binary_cross_entropy", "binary_cross_entropy_with_logits")  # one score per sample is enough for these
MIN_SAMPLES = 2  # over one sample, softmax gives 1 everywhere


def run(ctx: Context) -> Findings:
    found = calls(ctx, *PICKS_ONE, *BINARY, "kl_div")
    for call in found:
        scores = call.input.float()
        one_each = call.function in BINARY and (scores.ndim == 1 or scores.shape[1:] == (1,))
        if one_each and _is_a_list(ctx, call):
            continue
        if scores.ndim == 1 and call.function in BINARY:
            scores = scores.unsqueeze(1)
        if scores.ndim < 2 or len(scores) < MIN_SAMPLES or (scores.shape[1] < 2 and call.function not in BINARY):
            continue
        if call.function == "kl_div" and scores.shape[0] == scores.shape[1]:
            continue  # similarities between samples, which may be shared out either way
        values = scores.exp() if bool((scores <= 0).all()) else scores
        if _sums_to_one(values, 0) and not _sums_to_one(values, 1):
            yield DOC.finding(
                "in the scores of shape {shape} that reach {function}, each column sums to 1 over the batch, no row "
                "does",
                shape=str(tuple(scores.shape)),
                function=call.function,
                grade=str(Grade.SUPPORTED if one_each else Grade.PROVED),
                where=(placed(ctx, call.origin) if call.origin is not None else ()) or call.where,
            )
            return ""
    if len(found[0].input) < MIN_SAMPLES:
        raise Skip("the batch has a single sample")
    return "the scores are not normalised over the batch"


def _sums_to_one(values: Tensor, axis: int) -> bool:
    return bool((values >= 0).all()) and bool(((values.sum(axis) - 1).abs() < SUM_TOLERANCE).all())


def _is_a_list(ctx: Context, call: LossCall) -> bool:
    """Whether the scores are of one list, of which one item is wanted, and not of samples."""
    listed = getattr(ctx.pipeline.train, "batch_size", 0) is None
    return listed or bool(abs(float(call.target.float().sum()) - 1) < SUM_TOLERANCE)
