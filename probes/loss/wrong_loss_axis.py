"""The classes are not where the loss looks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage

if TYPE_CHECKING:
    from probes.measurements import Context
    from probes.records.forward import Attempt, LossCall

DOC = ProbeDoc(
    code="LOS409",
    name="wrong-loss-axis",
    stage=Stage.SMOKE,
    summary="Cross-entropy takes axis 1 for the classes, but the model puts them on the last axis.",
    why="The loss then normalises over positions instead of classes, or fails because the shapes do not fit.",
    fix="Transpose the logits to (N, C, L), or flatten both: logits.reshape(-1, C) and targets.reshape(-1).",
    consequences=("output-shape-mismatch", "initial-loss-off", "slow-to-learn", "cannot-overfit", "stuck-at-chance"),
    before="F.cross_entropy(logits, targets)                    # (N, L, C)",
    after="F.cross_entropy(logits.transpose(1, 2), targets)    # (N, C, L)",
    references=("torch.nn.CrossEntropyLoss documentation: input of shape (N, C, d1, ...)",),
)


def run(ctx: Context) -> Findings:
    attempt = ctx.attempt()
    call = swapped_call(attempt)
    if call is not None:
        yield DOC.finding(
            "cross_entropy is given scores of shape {scores} and targets of shape {targets}: axis 1 holds positions",
            scores=str(tuple(call.input.shape)),
            targets=str(tuple(call.target.shape)),
            where=call.where,
        )
        return ""
    if attempt.failure is not None:
        raise Skip(f"{attempt.failure.phase} raised {attempt.failure.type}")
    misread = _reshaped(attempt)
    if misread is not None:
        yield DOC.finding(
            "the output of shape {output} is reshaped to scores of shape {scores} without moving the axis of the "
            "classes: each row mixes classes and positions",
            output=str(tuple(attempt.output.shape)) if attempt.output is not None else "",
            scores=str(tuple(misread.input.shape)),
            where=misread.where,
        )
        return ""
    dense = [c for c in attempt.loss_calls if c.function in {"cross_entropy", "nll_loss"} and c.input.ndim > 2]
    return f"classes on axis 1 of {tuple(dense[0].input.shape)}" if dense else "no loss over several positions at once"


def swapped_call(attempt: Attempt) -> LossCall | None:
    """The call whose classes are on the last axis. Where both axes are of one size, a linear layer gives it away: it
    puts its features last, and only a transposed (hence not contiguous) result of it has them on axis 1."""
    for call in attempt.loss_calls:
        scores, targets = call.input.shape, call.target.shape
        if call.function not in {"cross_entropy", "nll_loss"} or len(scores) < 3 or len(targets) != len(scores) - 1:
            continue
        fits = targets == (scores[0], *scores[2:])
        if targets == scores[:-1] and (not fits or (call.origin is not None and call.origin.function == "linear")):
            return call
    return None


def _reshaped(attempt: Attempt) -> LossCall | None:
    """The call whose scores are the output's values in the order of memory, though the classes lie on another axis."""
    import torch

    output = attempt.output
    if output is None or output.ndim < 3:
        return None
    shape = tuple(output.shape)
    by_axis = {1: shape[:1] + shape[2:], output.ndim - 1: shape[:-1]}  # axis of the classes -> shape of the targets
    for call in attempt.loss_calls:
        scores = call.input
        # The loss may get the targets flat, or only a part of the batch's.
        targets = {tuple(y.shape) for y in (call.target, attempt.target) if isinstance(y, torch.Tensor)}
        axes = [axis for axis, rest in by_axis.items() if rest in targets]
        if call.function not in {"cross_entropy", "nll_loss"} or len(axes) != 1 or scores.numel() != output.numel():
            continue
        right = output.movedim(axes[0], -1).reshape(-1, shape[axes[0]]).float()
        rows = (scores if scores.ndim == 2 else scores.movedim(1, -1).reshape(-1, scores.shape[1])).float()
        plain = rows.shape == right.shape and torch.equal(scores.float().flatten(), output.float().flatten())
        if plain and not torch.equal(rows, right):
            return call
    return None
