"""What the probes of model and loss ask of the scores that reach a loss: their rows, sums and mean loss."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from probes.api import Skip

if TYPE_CHECKING:
    from torch import Tensor

    from probes.measurements import Context
    from probes.records.forward import Attempt, LossCall

SUM_TOLERANCE = 1e-3  # of a row of probabilities around 1: float32 needs 1e-6, float16 1e-3
PICKS_ONE = ("cross_entropy", "nll_loss")
NON_NEGATIVE = ("cross_entropy", "binary_cross_entropy", "binary_cross_entropy_with_logits", "mse_loss", "l1_loss",
                "smooth_l1_loss", "huber_loss")  # fmt: skip
MEAN_ALONE = ("weight", "pos_weight")  # options without which a mean over samples is comparable to its expectation


def ran(ctx: Context) -> Attempt:
    """The attempt, where forward and loss ran; else Skip, for another name tells why they did not."""
    attempt = ctx.attempt()
    if attempt.failure is not None:
        raise Skip(f"{attempt.failure.phase} raised {attempt.failure.type}")
    return attempt


def calls(ctx: Context, *functions: str) -> list[LossCall]:
    """The calls of these losses of torch. Skip where there was none: what a loss of one's own expects is not known."""
    found = [call for call in ran(ctx).loss_calls if call.function in functions]
    if not found:
        raise Skip(f"the loss ({ctx.facts.loss_name}) does not call {' or '.join(functions)} of torch")
    return found


def rows(scores: Tensor) -> Tensor:
    """(N, C, d1, ...) or (C,) as (M, C)."""
    if scores.ndim < 2:
        return scores.reshape(1, -1)
    return scores.transpose(1, -1).reshape(-1, scores.shape[1])


def are_probabilities(table: Tensor) -> bool:
    """Whether each row of (M, C), C > 1, is a distribution."""
    if table.shape[1] < 2 or not len(table) or bool((table < 0).any()):
        return False
    return bool(((table.sum(1) - 1).abs() < SUM_TOLERANCE).all())


def are_negated(table: Tensor) -> bool:
    """Whether each row of (M, C), C > 1, holds log-probabilities with the wrong sign."""
    return are_probabilities((-table).exp()) and bool((table >= 0).all())


def mean_loss(call: LossCall, *, weighted: bool = True) -> float | None:
    """The mean of the loss over the samples of the call, whatever its reduction; None if it cannot be computed."""
    import torch

    left_out = {"reduction", "size_average", "reduce", *(() if weighted else MEAN_ALONE)}
    options: dict[str, Any] = {
        key: value.detach().cpu() if isinstance(value, torch.Tensor) else value
        for key, value in call.options.items()
        if key not in left_out
    }
    try:
        value = float(getattr(torch.nn.functional, call.function)(call.input, call.target, **options))
    except (RuntimeError, TypeError, ValueError, IndexError):
        return None
    return value if math.isfinite(value) else None


def has_tied_head(ctx: Context) -> bool:
    """Whether a linear layer shares its weight with an embedding: its scores then start with the embedding's scale."""
    import torch

    modules = list(ctx.pipeline.model.modules())
    tables = {id(m.weight) for m in modules if isinstance(m, torch.nn.Embedding)}
    return any(id(m.weight) in tables for m in modules if isinstance(m, torch.nn.Linear))
