"""Layers that the model does not know as its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Stage
from probes.results import Table

if TYPE_CHECKING:
    from typing import Any

    from torch import nn

    from probes.measurements import Context

DOC = ProbeDoc(
    code="MOD208",
    name="unregistered-modules",
    stage=Stage.SMOKE,
    summary="The model holds layers or parameters in a place where PyTorch does not look for them.",
    why="They are missing from parameters() and state_dict(): not optimised, not moved to the device, not saved.",
    fix="Use nn.ModuleList, nn.ModuleDict or nn.ParameterList instead of a plain list or dict, and nn.Parameter for "
    "tensors.",
    consequences=(
        "parameters-missing-from-optimizer", "parameters-not-updated", "device-mismatch", "slow-to-learn",
        "cannot-overfit", "everything-frozen", "loss-detached", "batch-mixing", "nondeterministic-eval",
    ),
    before="self.layers = [nn.Linear(64, 64) for _ in range(4)]",
    after="self.layers = nn.ModuleList(nn.Linear(64, 64) for _ in range(4))",
    references=("torch.nn.ModuleList documentation",),
)  # fmt: skip
MAX_DEPTH = 4  # of containers in containers


def run(ctx: Context) -> Findings:
    model = ctx.pipeline.model
    known = {id(m) for m in model.modules()} | {id(p) for p in model.parameters()} | {id(b) for b in model.buffers()}
    found = [
        (f"{path}.{name}".lstrip("."), item)
        for path, module in model.named_modules()
        for attribute, value in vars(module).items()
        if not attribute.startswith("__") and attribute not in _BOOKKEEPING
        for name, item in _hidden(value, attribute, known, MAX_DEPTH)
    ]
    if found:
        place, first = found[0]
        yield DOC.finding(
            "{count} layers or parameters are not registered, {elements:,} numbers in all; the first is {first} "
            "({type})",
            count=len(found),
            elements=sum(p.numel() for _, item in found for p in _trainable(item)),
            first=place,
            type=type(first).__name__,
            where=ctx.created_at(first) if hasattr(first, "parameters") else (),
            evidence=(Table(("place", "type"), [(name, type(item).__name__) for name, item in found[:20]]),),
        )
        return ""
    return f"{sum(p.numel() for p in model.parameters()):,} parameters, all registered"


_BOOKKEEPING = {"_modules", "_parameters", "_buffers", "_flat_weights", "_flat_weight_refs"}


def _trainable(item: nn.Module | Any) -> list[Any]:
    """Trainable tensors; a frozen module that is hidden (a teacher, an average) is meant to be."""
    import torch

    tensors = item.parameters() if isinstance(item, torch.nn.Module) else (item,)
    return [p for p in tensors if p.requires_grad and p.is_leaf]


def _hidden(value: Any, name: str, known: set[int], depth: int) -> Iterator[tuple[str, Any]]:
    """(place, module or tensor) of what ``value`` holds and nobody registered. ``known`` grows: each comes once."""
    import torch

    if isinstance(value, (torch.nn.Module, torch.Tensor)):
        if id(value) not in known and any(id(p) not in known for p in _trainable(value)):
            known.add(id(value))
            yield name, value
        return
    if depth == 0 or id(value) in known:
        return
    if isinstance(value, dict):
        items = [(f"{name}[{key!r}]", item) for key, item in value.items()]
    elif isinstance(value, (list, tuple, set)):
        items = [(f"{name}[{index}]", item) for index, item in enumerate(value)]
    elif hasattr(value, "__dict__") and not callable(value) and not type(value).__module__.startswith("torch"):
        items = [(f"{name}.{key}", item) for key, item in vars(value).items()]
    else:
        return
    known.add(id(value))
    for place, item in items:
        yield from _hidden(item, place, known, depth - 1)
