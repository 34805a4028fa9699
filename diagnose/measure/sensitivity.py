"""What the loss depends on: parameters disturbed on purpose, and the gradient of a disturbed model."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from diagnose.batches import map_tensors
from diagnose.measure.step_watch import gradient_norms
from diagnose.training.step import Engine
from diagnose.user_code import UserCodeError, user_code
from probes.api import Skip
from probes.records.forward import HalfGradients

if TYPE_CHECKING:
    from torch import nn

    from diagnose.pipeline import Pipeline

# Noise, in units of a parameter's own root mean square: large enough to wake units that rest; and then to tip what is
# chosen by comparison (an argmax, a nearest neighbour), which small changes leave alone.
JOLTS = (1.0, 30.0)
JITTER = 0.1  # noise that leaves the model in the neighbourhood of its start, same unit
ZERO_SCALE = 0.02  # in the place of the root mean square of a parameter that is all zero: a usual initial std
RETURNED = re.compile(r"Function '?(\w+?)(?:Backward\d*)?'? returned nan")


def only_step(pipeline: Pipeline) -> bool:
    """Whether nothing but the user's own ``train_step`` can compute the loss."""
    return pipeline.train_step is not None and pipeline.loss is None and pipeline.compute_loss is None


def loss_of(engine: Engine, raw: Any) -> float:
    """The loss in train mode, through the user's own step where only that computes it (the model moves then)."""
    value = (engine.step(raw) if only_step(engine.pipeline) else engine.loss(raw)).loss
    return float(value.detach()) if isinstance(value, torch.Tensor) else float(value)


def disturb(model: nn.Module, scale: float, names: Collection[str] | None = None) -> None:
    """Adds noise to the named parameters (all by default), from a generator of its own: always alike."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if (names is None or name in names) and p.is_floating_point() and p.numel():
                size = float(torch.linalg.vector_norm(p, dtype=torch.float32)) / p.numel() ** 0.5 or ZERO_SCALE
                noise = torch.randn(p.shape, generator=generator)
                p.add_(noise.to(p.device, p.dtype), alpha=size * scale)


def gradients(engine: Engine, raws: Iterable[Any]) -> Mapping[str, float | None]:
    """Name -> the largest gradient norm (None: never a gradient), without any update. Over ``raws``, as long as one of
    them has none: most models are done with the first batch."""
    named = dict(engine.model.named_parameters())
    found: dict[str, float | None] = dict.fromkeys(name for name, p in named.items() if p.requires_grad)
    for raw in raws:
        engine.model.zero_grad(set_to_none=True)
        loss = engine.loss(raw).loss
        with user_code("backward"):
            loss.backward()
        for name, norm in gradient_norms(named).items():
            found[name] = norm if math.isnan(norm) else max(found.get(name) or 0.0, norm)
        if all(found.values()):
            break
    engine.model.zero_grad(set_to_none=True)
    return found


def nonfinite_operation(engine: Engine, raws: Iterable[Any]) -> str:
    """The operation whose backward first returned NaN on ``raws`` ("" if none did), by autograd's anomaly mode."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for raw in raws:
            try:
                with torch.autograd.detect_anomaly(check_nan=True):
                    engine.loss(raw).loss.backward()
            except UserCodeError:
                return ""
            except RuntimeError as error:
                match = RETURNED.search(str(error))
                return match.group(1) if match else ""
    return ""


def half_gradients(own: Engine, full: Engine, raw: Any, dtype: str) -> HalfGradients:
    """``full`` has the weights of ``own`` in float32, and no autocast."""
    single = map_tensors(raw, lambda x: x.float() if x.dtype in (torch.float16, torch.bfloat16) else x)
    small, finite = _loss_gradients(own, raw)
    try:
        wanted, finite_in_full = _loss_gradients(full, single)
    except UserCodeError as error:  # the casts in its forward are for its own precision
        raise Skip(f"the model does not run in float32 ({type(error.original).__name__})") from error
    asked = vanished = 0
    for name, gradient in wanted.items():
        mine = small.get(name)
        if mine is not None and mine.shape == gradient.shape:
            alive = gradient != 0
            asked += int(alive.sum())
            vanished += int((alive & (mine == 0)).sum())
    return HalfGradients(dtype, vanished / asked if asked else 0.0, finite, finite_in_full)


def _loss_gradients(engine: Engine, raw: Any) -> tuple[dict[str, torch.Tensor], bool]:
    engine.model.train()
    engine.model.zero_grad(set_to_none=True)
    loss = engine.loss(raw).loss
    with user_code("backward"):
        loss.backward()
    found = {
        name: p.grad.detach().to_dense() if p.grad.is_sparse else p.grad.detach().clone()
        for name, p in engine.model.named_parameters()
        if p.grad is not None
    }
    engine.model.zero_grad(set_to_none=True)
    finite = bool(torch.isfinite(loss.detach())) and all(bool(torch.isfinite(g).all()) for g in found.values())
    return found, finite
