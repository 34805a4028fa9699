"""What the first optimisation steps did to the parameters, and which of them the optimizer holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from probes.results import Where


@dataclass(frozen=True)
class ParameterRecord:
    """One parameter over the first updates. ``gradients``: norm per update, None where there was no gradient;
    ``updates``: |dp| / |p| per update (|dp| where |p| is 0). ``identical_rows``: before the first and after the last
    update, whether all rows of a matrix (or filters) are equal. ``lost_share``: of the elements with a gradient in the
    last update, those that it left exactly as they were; ``gradient_rms``: of its elements in the last update."""

    name: str
    shape: tuple[int, ...]
    requires_grad: bool
    optimized: bool
    gradients: Sequence[float | None]
    updates: Sequence[float]
    identical_rows: tuple[bool, bool] = (False, False)
    dtype: str = "float32"
    lost_share: float = 0.0
    gradient_rms: float = 0.0


@dataclass(frozen=True)
class StepEvent:
    """One event of the user's own ``train_step``. ``kind``: "call" (of train_step), "backward", "clip", "unscale" or
    "step". ``share`` of a backward: by how much its tensor changes with torch's losses in it (1: the loss itself, 1/k:
    divided by k), None if unknown. ``size``: samples of the batch of a call, or of the losses of a backward.
    ``rootless``: backward was called on a tensor that nothing led to, so it reaches no parameter.
    ``whole``: the tensor of a backward is one loss of torch's and nothing else, but for a factor.
    ``limit`` of a clip: the norm that it leaves at most; None where single values are clipped."""

    kind: str
    share: float | None = None
    size: int = 0
    where: Sequence[Where] = ()
    rootless: bool = False
    limit: float | None = None
    whole: bool = False


@dataclass(frozen=True)
class Updates:
    """The first few optimisation steps of a fresh pipeline, exactly as the pipeline defines a step.

    ``lrs`` holds the largest learning rate in force at each step. ``stepped`` counts calls of ``optimizer.step``.
    ``uncleared`` counts steps whose gradient still held that of the step before; ``cleared`` steps whose gradient was
    gone although backward had made one. ``events``: what a ``train_step`` of the user's did, in order.
    ``seconds_per_batch``: typical time of forward, backward and step.
    """

    steps: int
    losses: Sequence[float]
    lrs: Sequence[float]
    stepped: int
    parameters: Sequence[ParameterRecord]
    uncleared: int = 0
    cleared: int = 0
    events: Sequence[StepEvent] = ()
    seconds_per_batch: float = 0.0


@dataclass(frozen=True)
class Coverage:
    """Which parameters the optimizer holds, by identity.

    ``missing``: trainable but not optimised; ``stray``: shapes of optimised tensors that are not the model's;
    ``frozen``: of the model, not trainable. ``trainable`` of the model's ``total`` tensors; ``optimized``: tensors that
    the optimizer holds. ``where``: its construction.
    """

    missing: Sequence[str]
    stray: Sequence[tuple[int, ...]]
    frozen: Sequence[str]
    trainable: int
    total: int
    optimized: int
    where: Sequence[Where] = ()
