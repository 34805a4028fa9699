"""What happens inside the forward: activations, signal, random draws, modules made on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from probes.results import Where

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ActivationRecord:
    """One place that activates, over a training batch or several in train mode. ``units`` and ``dead_share`` (of units
    that never fired) are those of a ReLU; ``flat_share`` is the share of values in the flats of a sigmoid or tanh.
    ``is_output``: its result is the model's output."""

    function: str
    module: str
    where: Sequence[Where]
    units: int
    dead_share: float
    flat_share: float
    values: int
    is_output: bool


@dataclass(frozen=True)
class LayerRecord:
    """How much a weighted layer's input and output differ between samples (standard deviation), in train mode."""

    path: str
    type: str
    input_std: float
    output_std: float


@dataclass(frozen=True)
class RandomCall:
    """A call that drew random numbers in eval mode, dropout with a probability above 0 included."""

    function: str
    module: str
    where: Sequence[Where]


@dataclass(frozen=True)
class CreatedModule:
    """A module with parameters of its own that was constructed during a forward; at ``every`` one, or the first."""

    type: str
    where: Sequence[Where]
    every: bool


@dataclass(frozen=True)
class Inspection:
    """A closer look at the forward over a training batch, or several. ``layers`` are in order of execution; ``image``
    is what the first two-dimensional convolution is given, (N, C, H, W), of the first batch. ``over_batch``: paths of
    attention and recurrent layers that expect (L, N, D) and are given (N, L, D)."""

    activations: Sequence[ActivationRecord]
    layers: Sequence[LayerRecord]
    created: Sequence[CreatedModule]
    samples: int
    image: Tensor | None = None
    over_batch: Sequence[str] = ()
