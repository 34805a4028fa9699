"""Scores of a batch, and what a constant prediction would reach: the yardsticks of every verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

CLASS_TASKS = frozenset({"classification", "segmentation", "language-model"})
UNIFORM_LEVEL = 0.001  # significance below which class counts are taken to differ
DISTANCES = frozenset({"mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"})
IGNORE_INDEX = -100  # torch.nn.functional.cross_entropy's default


def main_output(output: Any) -> Tensor | None:
    """The tensor that carries the prediction: the output itself, ``.logits``, a usual key, or the first tensor."""
    import torch

    if isinstance(output, torch.Tensor):
        return output
    logits = getattr(output, "logits", None)
    if isinstance(logits, torch.Tensor):
        return logits
    if isinstance(output, Mapping):
        for key in ("logits", "out", "output", "prediction"):
            if isinstance(output.get(key), torch.Tensor):
                found: Tensor = output[key]
                return found
        output = tuple(output.values())
    if isinstance(output, (tuple, list)):
        for item in output:
            inner = main_output(item)
            if inner is not None:
                return inner
    return None


def class_targets(
    output: Tensor, target: Any, task: str, ignore_index: int = IGNORE_INDEX, threshold: float | None = None
) -> tuple[Tensor, Tensor] | None:
    """(predicted, true) class indices as flat tensors of equal length, or None where the shapes do not tell.
    ``threshold`` of a single score per sample; None: by the scores themselves."""
    import torch

    classes = output.shape[1] if output.ndim > 1 else 2
    if isinstance(target, torch.Tensor) and _is_one_score(output, target, task):
        limit = decision_threshold(output) if threshold is None else threshold
        return (output > limit).flatten().long(), (target > 0.5).flatten().long()
    if task not in CLASS_TASKS or not isinstance(target, torch.Tensor) or output.ndim < 2:
        return None
    if target.is_floating_point() and target.shape == output.shape:  # soft targets
        return output.argmax(1).flatten(), target.argmax(1).flatten()
    if target.ndim == output.ndim - 1 and target.shape == output.shape[:1] + output.shape[2:]:
        predicted = output.argmax(1)
    elif target.ndim == output.ndim - 1 and target.shape == output.shape[:-1]:
        predicted, classes = output.argmax(-1), output.shape[-1]
    elif target.numel() == output.shape[0]:
        predicted, target = output.argmax(1).flatten(), target.reshape(-1)
    elif output.ndim == 2 and target.numel() == output.shape[0] * 1:
        predicted = output.argmax(1)
    else:
        return None
    target = target.long()
    keep = target != ignore_index
    beyond = keep & (target >= classes)
    if task == "classification" and bool(beyond.any()):
        return None  # thresholds of ordered classes, say, and no scores of classes
    keep &= ~beyond  # a void that the loss leaves out by itself
    return predicted[keep], target[keep]


def correct_and_count(
    output: Tensor | None, target: Any, task: str, ignore_index: int = IGNORE_INDEX, threshold: float | None = None
) -> tuple[int, int] | None:
    """How many predictions are right, of how many; None for tasks without an accuracy. ``threshold``: see
    ``class_targets``."""
    import torch

    if output is None or not isinstance(target, torch.Tensor):
        return None
    if _is_one_score(output, target, task) or (task == "multilabel" and target.shape == output.shape):
        scores = output.reshape(target.shape)
        limit = decision_threshold(scores) if threshold is None else threshold
        right = (scores > limit) == (target > 0.5)
        return int(right.sum()), right.numel()
    pair = class_targets(output, target, task, ignore_index)
    if pair is None:
        return None
    predicted, true = pair
    return int((predicted == true).sum()), int(true.numel())


def _is_one_score(output: Tensor, target: Tensor, task: str) -> bool:
    """Whether the model gives each sample one number, for a yes or no."""
    return (
        task in {"classification", "multilabel"} and output.ndim > 0 and len(output) == output.numel() == target.numel()
    )


def threshold_by_loss(loss: Any) -> float | None:
    """0 where the loss takes logits of a yes or no, 0.5 where it takes probabilities, None where it does not tell."""
    import torch

    if isinstance(loss, torch.nn.BCEWithLogitsLoss) or loss is torch.nn.functional.binary_cross_entropy_with_logits:
        return 0.0
    probabilities = isinstance(loss, torch.nn.BCELoss) or loss is torch.nn.functional.binary_cross_entropy
    return 0.5 if probabilities else None


def decision_threshold(scores: Tensor) -> float:
    """0.5 for probabilities, 0 for logits, where the loss does not tell. Scores that all lie in [0, 1] are taken for
    probabilities: logits of a whole batch have both signs, unless it is very small."""
    return 0.5 if bool(((scores >= 0) & (scores <= 1)).all()) else 0.0


@dataclass(frozen=True)
class Yardsticks:
    """``floor``: the lowest loss that the targets allow; ``constant``: the loss of the best prediction that ignores the
    input; ``chance``: its score. None where the task or loss gives no such figure. ``classes``: how many."""

    floor: float | None = None
    constant: float | None = None
    chance: float | None = None
    classes: int | None = None


def yardsticks(
    targets: Tensor, task: str, function: str, options: Mapping[str, Any], classes: int | None, batch: int
) -> Yardsticks:
    """Measured from targets (all of a sample, concatenated) for a known loss ``function`` of torch.nn.functional.

    ``batch``: target elements per batch, needed for a summed loss.
    """
    import torch

    scale = float(batch) if options.get("reduction") == "sum" else 1.0
    if task in CLASS_TASKS and not targets.is_floating_point() and function not in DISTANCES:
        return _of_classes(targets, function, options, classes, scale)
    targets = targets.double()
    if function.startswith("binary_cross_entropy"):
        classes = 2 if targets.numel() == len(targets) else classes
        columns = targets.reshape(len(targets), -1).mean(0).clamp(0, 1)
        floor = float(_binary_entropy(targets.clamp(0, 1)).mean()) * scale
        if options.get("pos_weight") is not None or options.get("weight") is not None:
            return Yardsticks(floor, None, None, classes)
        chance = float(torch.maximum(columns, 1 - columns).mean())
        return Yardsticks(floor, float(_binary_entropy(columns).mean()) * scale, chance, classes)
    if task == "classification" and targets.ndim == 2 and function == "cross_entropy":  # soft targets
        size = targets.shape[1]
        scale = scale / size if options.get("reduction") == "sum" else 1.0  # summed over samples, not over elements
        share = targets.mean(0)
        floor = float((-(targets * targets.clamp_min(1e-12).log()).sum(1)).mean())
        return Yardsticks(floor * scale, _entropy(share) * scale, float(share.max()), size)
    if function in DISTANCES:
        columns = targets.reshape(len(targets), -1)
        center = columns.mean(0) if function == "mse_loss" else columns.median(0).values
        loss = getattr(torch.nn.functional, function)
        extra = {key: options[key] for key in ("beta", "delta") if options.get(key) is not None}
        return Yardsticks(0.0, float(loss(center.expand_as(columns), columns, **extra)) * scale, None, None)
    return Yardsticks(classes=classes)


def _of_classes(
    targets: Tensor, function: str, options: Mapping[str, Any], classes: int | None, scale: float
) -> Yardsticks:
    """For integer class labels of any shape."""
    import torch

    flat = targets.reshape(-1)
    flat = flat[flat != int(options.get("ignore_index", IGNORE_INDEX))]
    flat = flat[flat >= 0]
    if not flat.numel():
        return Yardsticks(classes=classes)
    count = torch.bincount(flat).double()
    size = max(classes or 0, len(count))
    share = torch.zeros(size, dtype=torch.float64)
    share[: len(count)] = count / count.sum()
    if _looks_uniform(count, size):
        share = torch.full((size,), 1 / size, dtype=torch.float64)
    chance = float(share.max())
    if function not in {"cross_entropy", "nll_loss"}:
        return Yardsticks(chance=chance, classes=size)
    weight = options.get("weight")
    if isinstance(weight, torch.Tensor) and weight.numel() == size:
        share = share * weight.detach().double().cpu()
        share = share / share.sum()
    smoothing = float(options.get("label_smoothing") or 0.0)
    constant = _entropy((1 - smoothing) * share + smoothing / size)
    return Yardsticks(smoothing_floor(smoothing, size) * scale, constant * scale, chance, size)


def smoothing_floor(smoothing: float, classes: int) -> float:
    """Entropy of a smoothed one-hot target: the lowest cross-entropy that label smoothing allows."""
    if smoothing <= 0 or classes < 2:
        return 0.0
    hit, miss = 1 - smoothing + smoothing / classes, smoothing / classes
    return -(hit * math.log(hit) + (classes - 1) * miss * math.log(miss))


def prefix_floor(tokens: Tensor, targets: Tensor, ignore_index: int = IGNORE_INDEX) -> float:
    """The lowest mean cross-entropy that a causal model can reach on these (N, L) sequences: where the same beginning
    goes on in different ways, nothing can tell which. 0 where every beginning is unique."""
    states: dict[tuple[int, int], int] = {}
    counts: dict[int, dict[int, int]] = {}
    for row, wanted in zip(tokens.tolist(), targets.tolist(), strict=True):
        state = -1
        for token, target in zip(row, wanted, strict=True):
            state = states.setdefault((state, token), len(states))
            if target != ignore_index:
                after = counts.setdefault(state, {})
                after[target] = after.get(target, 0) + 1
    total = sum(n for after in counts.values() for n in after.values())
    loss = -sum(n * math.log(n / sum(after.values())) for after in counts.values() for n in after.values())
    return loss / total if total else 0.0


def _looks_uniform(count: Tensor, classes: int) -> bool:
    """Whether class counts may come from equally frequent classes (chi-square test). Then 1/C and ln C are the better
    yardsticks: the entropy of few samples is biased towards 0, by about (C - 1) / 2N."""
    import torch
    from scipy.stats import chi2  # a dependency of scikit-learn

    total = float(count.sum())
    full = torch.zeros(classes, dtype=torch.float64)
    full[: len(count)] = count
    expected = total / classes
    statistic = float(((full - expected) ** 2 / expected).sum())
    return bool(chi2.sf(statistic, classes - 1) > UNIFORM_LEVEL)


def _entropy(share: Tensor) -> float:
    share = share[share > 0]
    return float(-(share * share.log()).sum())


def _binary_entropy(p: Tensor) -> Tensor:
    import torch

    return -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p))


def binomial_interval(chance: float, samples: int, level: float = 0.999) -> tuple[float, float]:
    """The interval in which the accuracy of a guesser over ``samples`` independent samples lies with ``level``."""
    from scipy.stats import binom  # a dependency of scikit-learn

    low, high = binom.interval(level, samples, chance)
    return float(low) / samples, float(high) / samples
