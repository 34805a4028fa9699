"""Scores of tasks with many targets per sample: segmentation and language models. Counts only, never the outputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from diagnose.training.metrics import class_targets

if TYPE_CHECKING:
    from torch import Tensor


SAMPLES = 4  # kept for a picture


class SegmentationScores:
    """Pixels, over (N, C, H, W) logits and (N, H, W) classes; one output channel is one yes or no per pixel.

    ``samples``: (image (C, H, W), true and predicted classes (H, W)) of the first ones."""

    def __init__(self, classes: int | None, names: Sequence[str], ignore_index: int) -> None:
        self._classes, self._names, self._ignore = classes or 0, names, ignore_index
        self._matrix = torch.zeros(0, 0, dtype=torch.long)
        self._by_sample: list[float | None] = []
        self.samples: list[tuple[Tensor, Tensor, Tensor]] = []

    @property
    def classes(self) -> int:
        return len(self._matrix)

    def add(self, output: Tensor, target: Any, inputs: Sequence[Any]) -> None:
        if not isinstance(target, torch.Tensor):
            return
        self._keep(output, target, inputs)
        for one, its in zip(output, target, strict=False):
            pair = self._pair(one[None], its[None])
            if pair is None:
                return
            predicted, true = pair
            self._by_sample.append(float((predicted == true).float().mean()) if len(true) else None)
            if len(true):
                self._count(predicted.cpu(), true.cpu())

    def _keep(self, output: Tensor, target: Tensor, inputs: Sequence[Any]) -> None:
        """The first samples, for a picture, where inputs are images of the size of the targets."""
        images = inputs[0] if inputs else None
        shape = target.shape[-2:]
        if not isinstance(images, torch.Tensor) or images.ndim != 4 or images.shape[-2:] != shape or target.ndim < 3:
            return
        for row in range(min(len(images), SAMPLES - len(self.samples))):
            pair = self._pair(output[row : row + 1], target[row : row + 1])
            if pair is None or len(pair[0]) != shape.numel():  # some pixels are ignored
                return
            classes = [item.detach().cpu().reshape(shape) for item in reversed(pair)]
            self.samples.append((images[row].detach().float().cpu().clone(), classes[0], classes[1]))

    def _pair(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor] | None:
        if output.numel() == target.numel():
            true = target.reshape(-1)
            keep = true != self._ignore
            threshold = 0.5 if bool(((output >= 0) & (output <= 1)).all()) else 0.0
            return (output.reshape(-1) > threshold).long()[keep], (true[keep] > 0.5).long()
        self._classes = max(self._classes, output.shape[1])
        return class_targets(output, target, "segmentation", self._ignore)

    def _count(self, predicted: Tensor, true: Tensor) -> None:
        size = max(self._classes, 2, len(self._matrix), int(true.max()) + 1, int(predicted.max()) + 1)
        if size > len(self._matrix):
            grown = torch.zeros(size, size, dtype=torch.long)
            grown[: len(self._matrix), : len(self._matrix)] = self._matrix
            self._matrix = grown
        self._matrix += torch.bincount(true * size + predicted, minlength=size * size).reshape(size, size)

    def result(self) -> dict[str, Any]:
        total = int(self._matrix.sum())
        if not total:
            return {}
        hits, there, said = self._matrix.diagonal(), self._matrix.sum(1), self._matrix.sum(0)
        union = there + said - hits
        iou = [float(hits[i] / union[i]) if union[i] else None for i in range(len(union))]
        known = [value for value in iou if value is not None]
        names = [self._names[i] if i < len(self._names) else str(i) for i in range(len(iou))]
        return {
            "accuracy": int(hits.sum()) / total,
            "pixel_accuracy": int(hits.sum()) / total,
            "mean_iou": sum(known) / len(known),
            "per_class": [
                {"class": names[i], "iou": iou[i], "support": int(there[i])} for i in range(len(iou)) if union[i]
            ],
            "class_names": names,
            "confusion_matrix": self._matrix.tolist(),
        }

    def predictions(self) -> dict[str, list[Any]]:
        return {"pixel_accuracy": self._by_sample}


class LanguageScores:
    """Tokens, over (N, T, V) or (N, V, T) logits and (N, T) targets. Perplexity is exp of the mean loss per token."""

    def __init__(self, ignore_index: int) -> None:
        self._ignore = ignore_index
        self._tokens, self._hits, self._loss = 0, 0, 0.0
        self._by_sample: list[tuple[int, float | None, float | None]] = []

    def add(self, output: Tensor, target: Any, inputs: Sequence[Any]) -> None:
        if not isinstance(target, torch.Tensor) or output.ndim < 2:
            return
        if target.shape == output.shape[:1] + output.shape[2:]:
            logits = output.movedim(1, -1)
        elif target.shape == output.shape[:-1]:
            logits = output
        elif target.numel() == len(output) and output.ndim == 2:  # flattened: (N * T, V)
            logits, target = output, target.reshape(-1)
        else:
            return
        if logits.ndim == 2:
            logits, target = logits[None], target[None]
        for one, its in zip(logits, target, strict=True):
            self._add_sample(one.reshape(-1, one.shape[-1]), its.reshape(-1).long())

    def _add_sample(self, logits: Tensor, true: Tensor) -> None:
        keep = true != self._ignore
        logits, true = logits[keep].float(), true[keep]
        count = len(true)
        loss = float(torch.nn.functional.cross_entropy(logits, true, reduction="sum")) if count else 0.0
        hits = int((logits.argmax(-1) == true).sum())
        self._tokens, self._hits, self._loss = self._tokens + count, self._hits + hits, self._loss + loss
        self._by_sample.append((count, loss / count if count else None, hits / count if count else None))

    def result(self) -> dict[str, Any]:
        if not self._tokens:
            return {}
        mean = self._loss / self._tokens
        accuracy = self._hits / self._tokens
        perplexity = math.exp(mean) if mean < 700 else None
        return {"accuracy": accuracy, "token_accuracy": accuracy, "perplexity": perplexity, "tokens": self._tokens}

    def predictions(self) -> dict[str, list[Any]]:
        counts, losses, accuracies = ([row[i] for row in self._by_sample] for i in range(3))
        return {"tokens": counts, "token_loss": losses, "token_accuracy": accuracies}
