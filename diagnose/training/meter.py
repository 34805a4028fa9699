"""Means over the samples of one pass: the loss, the task's metric, and the user's own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from diagnose.training.metrics import IGNORE_INDEX, correct_and_count, threshold_by_loss
from diagnose.user_code import user_code

if TYPE_CHECKING:
    from torch import Tensor

    from diagnose.pipeline import Pipeline
    from diagnose.training.step import Engine, Forwarded

METRICS = {
    "classification": "accuracy",
    "multilabel": "accuracy",
    "segmentation": "accuracy",
    "language-model": "accuracy",
    "regression": "mae",
}
_SUMS = ("_loss", "_weighed", "_score", "_judged", "_own_weighed", "samples", "nonfinite")


class Meter:
    """Sums over the batches of one pass. ``nonfinite``: batches whose loss was NaN or infinite. ``last``: how many
    predictions of the last batch were right, of how many.

    A user's metric is a function of one batch; its mean over the batches is weighted by their sizes, so a metric that
    does not average (an F1, say) is approximate.
    """

    def __init__(
        self, pipeline: Pipeline, task: str, ignore_index: int = IGNORE_INDEX, *, shifted: bool = False
    ) -> None:
        self._metrics = dict(pipeline.metrics or {})
        self._task, self._ignore, self._shifted = task, ignore_index, shifted
        self._threshold = threshold_by_loss(pipeline.loss)
        self._loss, self._weighed = 0.0, 0
        self._score, self._judged = 0.0, 0
        self._own = dict.fromkeys(self._metrics, 0.0)
        self._own_weighed = 0
        self.samples = 0
        self.nonfinite = 0
        self.last = (0, 0)

    def add(self, done: Forwarded) -> float | None:
        """Takes one batch in; its loss, or None where the pipeline gives none."""
        size = done.batch.size
        self.samples += size
        self.last = (0, 0)
        loss = as_number(done.loss)
        if loss is not None:
            self._loss += loss * size
            self._weighed += size
            self.nonfinite += not math.isfinite(loss)
        main = done.main
        if main is None:
            return loss
        main = main.detach().float() if main.is_floating_point() else main.detach()
        self._add_score(done, main)
        if self._metrics:
            self._add_own(main, done.batch.target, size)
        return loss

    def _add_score(self, done: Forwarded, main: Tensor) -> None:
        if self._task == "regression":
            pair = same_shape(main, done.batch.target)
            if pair is not None:
                self._score += float((pair[0] - pair[1]).abs().sum())
                self._judged += pair[0].numel()
            return
        pair = aligned(main, done.batch.target, self._task, shifted=self._shifted)
        found = correct_and_count(pair[0], pair[1], self._task, self._ignore, self._threshold)
        if found is not None:
            self.last = found
            self._score += found[0]
            self._judged += found[1]

    def _add_own(self, main: Tensor, target: Any, size: int) -> None:
        import torch

        for name, function in self._metrics.items():
            with user_code(f"metric {name}"), torch.no_grad():
                self._own[name] += float(function(main, target)) * size
        self._own_weighed += size

    def state(self) -> dict[str, Any]:
        """The sums so far, as plain data."""
        return {name: getattr(self, name) for name in _SUMS} | {"_own": dict(self._own)}

    def join(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Take the sums of several ranks together, this one's among them."""
        for name in _SUMS:
            setattr(self, name, sum(state[name] for state in states))
        self._own = {name: sum(state["_own"][name] for state in states) for name in self._own}

    def restore(self, state: Mapping[str, Any]) -> None:
        """The inverse of ``state``."""
        for name, value in state.items():
            setattr(self, name, dict(value) if name == "_own" else value)

    @property
    def loss(self) -> float | None:
        return _mean(self._loss, self._weighed)

    def figures(self) -> dict[str, float | None]:
        """``loss``, the task's metric where it has one, and the user's own."""
        found = {"loss": self.loss}
        if self._task in METRICS:
            found[METRICS[self._task]] = _mean(self._score, self._judged)
        return {**found, **{name: _mean(total, self._own_weighed) for name, total in self._own.items()}}


def run_pass(engine: Engine, raw: Any) -> Forwarded:
    """Model and loss of a batch; the model alone where the pipeline only knows whole steps."""
    pipeline = engine.pipeline
    if pipeline.train_step is not None and pipeline.loss is None and pipeline.compute_loss is None:
        return engine.forward(raw)
    return engine.loss(raw)


def aligned(main: Tensor, target: Any, task: str, *, shifted: bool) -> tuple[Tensor, Any]:
    """(output, target) that correspond. ``shifted``: the loss compares each output (N, L, V) or (N, V, L) with the
    target one place later, and so it is done here."""
    if shifted and main.ndim == 3:
        along = 1 if main.shape[1] == target.shape[1] else 2
        return main.narrow(along, 0, main.shape[along] - 1), target[:, 1:]
    if task == "multilabel":  # one logit per sample: (N, 1) against targets (N,)
        pair = same_shape(main, target)
        return (main, target) if pair is None else pair
    return main, target


def same_shape(output: Tensor, target: Any) -> tuple[Tensor, Tensor] | None:
    """Output and numeric target as float tensors of one shape (N, ...), or None where they have different sizes."""
    import torch

    if not isinstance(target, torch.Tensor) or target.numel() != output.numel():
        return None
    return output.float(), target.detach().float().reshape(output.shape)


def as_number(loss: Any) -> float | None:
    import torch

    if isinstance(loss, torch.Tensor):
        return float(loss.detach()) if loss.numel() == 1 else None
    return float(loss) if isinstance(loss, (int, float)) else None


def _mean(total: float, count: int) -> float | None:
    return total / count if count and math.isfinite(total) else None
