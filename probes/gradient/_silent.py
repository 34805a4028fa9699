"""Parameters without any gradient: which ones, and whether the loss depends on them all the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from probes.api import Skip

if TYPE_CHECKING:
    from probes.measurements import Context

MAX_MODULES = 24  # modules that are disturbed one by one; each costs one forward


def of_first_batches(ctx: Context) -> Mapping[str, float | None]:
    """Their gradient norms, of a disturbed model where some are none; empty where they cannot be had."""
    try:
        return ctx.gradients()
    except Skip:
        return {}


def without_gradient(ctx: Context) -> Sequence[str]:
    """Trainable, optimised parameters that got no gradient in any of the first updates, nor in a disturbed model."""
    disturbed = of_first_batches(ctx)
    return [
        p.name
        for p in ctx.updates().parameters
        if p.requires_grad
        and p.optimized
        and all(norm is None for norm in p.gradients)
        and disturbed.get(p.name) is None
    ]


def by_module(ctx: Context, names: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """Module path -> its parameters, in the order in which the modules ran."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name.rpartition(".")[0], []).append(name)
    ran = {record.path: position for position, record in enumerate(ctx.attempt().modules)}
    return dict(sorted(groups.items(), key=lambda item: ran.get(item[0], -1)))


def split_by_influence(ctx: Context) -> tuple[Mapping[str, Sequence[str]], Mapping[str, Sequence[str]]]:
    """(modules that move the loss, modules that do not), of those without a gradient."""
    names = without_gradient(ctx)
    groups = by_module(ctx, names)
    if not names or ctx.moves_loss(names) is not True:
        return {}, groups
    judged = dict(list(groups.items())[:MAX_MODULES])
    moving = {path: held for path, held in judged.items() if ctx.moves_loss(held)}
    return moving, {path: held for path, held in judged.items() if path not in moving}
