"""Made-up batches for a model that comes without data: enough to see whether it works mechanically."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from diagnose.batches import first_tensor
from diagnose.errors import UsageError
from diagnose.pipeline import Task

SAMPLES = 8  # per batch
BATCHES = 2
TOKENS = 16  # length of a sequence
SIDE = 32  # pixels, or steps of a signal


@dataclass(frozen=True)
class Shape:
    """One sample: its dimensions, and the vocabulary where it is token ids. ``source`` says who told."""

    dims: tuple[int, ...]
    source: str
    vocabulary: int = 0

    def __str__(self) -> str:
        kind = f" token ids below {self.vocabulary}" if self.vocabulary else ""
        return "x".join(map(str, self.dims)) + kind


def input_shape(model: nn.Module, declared: str | None) -> Shape:
    """The shape of ``--input`` ("3x32x32"), else that of the first layer. Raises UsageError where neither tells."""
    first = next((layer for layer in model.modules() if _of_layer(layer) is not None), None)
    inferred = _of_layer(first) if first is not None else None
    if declared:
        dims = tuple(int(size) for size in declared.split("x"))
        return Shape(dims, "--input", inferred.vocabulary if inferred else 0)
    if inferred is None:
        raise UsageError(
            f"there are no data, and no layer of {type(model).__name__} tells the shape of its input: give --data, or "
            "the shape of one sample with --input, for example --input 3x32x32."
        )
    return inferred


def _of_layer(layer: nn.Module) -> Shape | None:
    source = f"the first layer, {type(layer).__name__}"
    if isinstance(layer, nn.Embedding):
        return Shape((TOKENS,), source, layer.num_embeddings)
    if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d)) and not isinstance(layer, nn.modules.lazy.LazyModuleMixin):
        return Shape((layer.in_channels, *[SIDE] * len(layer.kernel_size)), source)
    if isinstance(layer, nn.Linear) and not isinstance(layer, nn.modules.lazy.LazyModuleMixin):
        return Shape((layer.in_features,), source)
    if isinstance(layer, nn.RNNBase):
        return Shape((TOKENS, layer.input_size), source)
    return None


def synthetic_batches(model: nn.Module, shape: Shape) -> tuple[list[Any], Task, int | None]:
    """Two batches ``(x, y)``, the task that the model's output suggests, and its number of classes.

    The targets have the shape that the output calls for: (N, C) -> indices (N,); token ids with (N, T, V) -> next
    tokens (N, T); else numbers of the output's shape. Where the model fails, the batches are inputs alone: "custom".
    """
    inputs = [_inputs(shape) for _ in range(BATCHES)]
    output = _output(model, inputs[0])
    if output is None or output.ndim < 1 or output.shape[0] != SAMPLES:
        return list(inputs), "custom", None
    if output.ndim == 2 and output.shape[1] > 1:
        classes = output.shape[1]
        return [(x, torch.randint(classes, (SAMPLES,))) for x in inputs], "classification", classes
    if shape.vocabulary and output.ndim == 3 and output.shape[:2] == inputs[0].shape:
        return [(x, torch.randint(output.shape[2], tuple(x.shape))) for x in inputs], "language-model", None
    return [(x, torch.randn(output.shape)) for x in inputs], "regression", None


def _inputs(shape: Shape) -> Tensor:
    if shape.vocabulary:
        return torch.randint(shape.vocabulary, (SAMPLES, *shape.dims))
    return torch.randn(SAMPLES, *shape.dims)


def _output(model: nn.Module, inputs: Tensor) -> Tensor | None:
    # On a copy, and any failure ignored: a model that cannot run is what smoke is there to find, with its own evidence.
    try:
        twin = deepcopy(model).eval()
        with torch.no_grad():
            return first_tensor(twin(inputs))
    except Exception:
        return None
