"""The parts of a composed loss, by their gradients: what torch's loss functions put in, and the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from diagnose.measure.step_order import LossResults
from diagnose.training.step import Engine
from diagnose.user_code import UserCodeError
from probes.records.forward import LossParts

if TYPE_CHECKING:
    from torch import Tensor

LOOKS = (0, 4, 9)  # updates after which the parts are compared


def loss_parts(engine: Engine, raws: list[Any]) -> LossParts | None:
    """Over the first updates. None where nothing of torch's losses is in the loss, or nothing else."""
    engine.model.train()
    data: list[float] = []
    rest: list[float] = []
    functions: list[str] = []
    weights: list[float] = []
    for step in range(LOOKS[-1] + 1):
        raw = raws[step % len(raws)]
        if step in LOOKS:
            pair = _parts(engine, raw, functions, weights)
            if pair is None:
                return None
            data.append(pair[0])
            rest.append(pair[1])
        try:
            engine.step(raw)
        except UserCodeError:
            break
    return LossParts(tuple(dict.fromkeys(functions)), tuple(weights), tuple(data), tuple(rest))


def _parts(engine: Engine, raw: Any, functions: list[str], shares: list[float]) -> tuple[float, float] | None:
    found: list[tuple[Tensor, str, int]] = []
    with LossResults(found, functions):
        loss = engine.loss(raw).loss
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1 or not loss.requires_grad or not found:
        return None
    results = [result for result, _, _ in found]
    weights = torch.autograd.grad(loss, results, retain_graph=True, allow_unused=True)
    used = [(r, w) for r, w in zip(results, weights, strict=True) if w is not None]
    if not used:
        return None
    shares += [float(weight) for _, weight in used]
    known = torch.stack([result * weight.detach() for result, weight in used]).sum()
    if torch.allclose(known, loss.detach().to(known), rtol=1e-5, atol=1e-8):
        return None  # there is nothing else in it
    parameters = [p for p in engine.model.parameters() if p.requires_grad]
    whole = _gradient(loss, parameters)
    part = _gradient(known, parameters)
    return float(part.norm()), float((whole - part).norm())


def _gradient(value: Tensor, parameters: list[torch.nn.Parameter]) -> Tensor:
    grads = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
    flat = [
        (torch.zeros_like(p) if g is None else g.to_dense() if g.is_sparse else g).detach().flatten().float()
        for g, p in zip(grads, parameters, strict=True)
    ]
    return torch.cat(flat)


def data_part(compute: Callable[..., Any]) -> Callable[..., Any]:
    """``compute``, but of its loss only what torch's losses put in, each with the weight that it has there."""
    weights: list[float] = []

    def wrapped(*args: Any) -> Any:
        found: list[tuple[Tensor, str, int]] = []
        with LossResults(found, graphless=True):
            value = compute(*args)
        loss = value[0] if isinstance(value, tuple) else value
        results = [result for result, _, _ in found]
        if not results or not isinstance(loss, torch.Tensor):
            return value
        if loss.requires_grad:
            known = torch.autograd.grad(loss, results, retain_graph=True, allow_unused=True)
            weights[:] = [0.0 if weight is None else float(weight) for weight in known]
        used = weights if len(weights) == len(results) else [1.0] * len(results)
        data = torch.stack([result * weight for result, weight in zip(results, used, strict=True)]).sum()
        return (data, *value[1:]) if isinstance(value, tuple) else data

    return wrapped
