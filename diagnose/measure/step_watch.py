"""What the optimizers find in the gradients at each step: all that backward made, nothing of it, or more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

if TYPE_CHECKING:
    from torch import nn

JUDGED_PARAMETERS = 8  # trainable tensors, the last ones, whose gradients are followed from backward to step
JUDGED_ELEMENTS = 1_000_000  # a larger tensor is not followed
ALONG = 0.99  # cosine; clipping and unscaling keep the direction of a gradient
SAME = 1e-3  # relative: floating-point noise of one addition is far smaller


class StepWatch:
    """What each ``optimizer.step`` found in the gradients; of any optimizer, for a user's step may have several.

    ``fresh`` gradients are those that backward made since the last step; a step that finds more than that, namely the
    gradient of the step before on top, was not cleared. Judged on a few parameters only, for their copies take memory.
    """

    def __init__(self, model: nn.Module, optimizer: Any) -> None:
        self.named = dict(model.named_parameters())
        self.optimizer = optimizer
        self.stepped = self.any_stepped = self.uncleared = self.cleared = 0
        self.norms: dict[str, float] = {}
        self._fresh: dict[str, torch.Tensor] = {}
        self._last: dict[str, torch.Tensor] = {}
        self._made: Counter[str] = Counter()  # backwards since the last step
        trainable = [(name, p) for name, p in self.named.items() if p.requires_grad and p.numel() <= JUDGED_ELEMENTS]
        self._judged = dict(trainable[-JUDGED_PARAMETERS:])
        self._handles = [
            p.register_hook(self._backward(name))  # type: ignore[no-untyped-call]
            for name, p in self._judged.items()
        ]
        self._handles.append(register_optimizer_step_pre_hook(self._before_step))

    def _backward(self, name: str) -> Any:
        def hook(gradient: torch.Tensor) -> None:
            made = gradient.detach().clone()
            self._fresh[name] = self._fresh[name] + made if name in self._fresh else made
            self._made[name] += 1

        return hook

    def _before_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        self.stepped += optimizer is self.optimizer
        self.any_stepped += 1
        self.norms |= gradient_norms(self.named)
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        mine = [name for name, p in self._judged.items() if id(p) in held and name in self._fresh]
        gone = [self._is_gone(name) for name in mine]
        self.cleared += bool(mine) and (all(gone) or self._cleared_between(mine))
        self.uncleared += any(self._holds_the_last(name) for name in mine)
        for name in mine:
            found = self.named[name].grad
            self._last.pop(name, None)
            if found is not None:
                self._last[name] = found.detach().clone()
            del self._fresh[name]
            self._made[name] = 0

    def _is_gone(self, name: str) -> bool:
        found = self.named[name].grad
        return bool(self._fresh[name].any()) and (found is None or not bool(found.any()))

    def _cleared_between(self, names: Sequence[str]) -> bool:
        """Of several backwards only what the last one made is left, and some have none of it. Where a gradient is taken
        off a layer on purpose the others keep theirs, and who has several optimizers clears what is not for them."""
        if self.any_stepped != self.stepped or all(self.named[name].grad is not None for name in names):
            return False
        none_left = any(self.named[name].grad is None and bool(self._fresh[name].any()) for name in names)
        return none_left and any(self._is_partly_gone(name) for name in names)

    def _is_partly_gone(self, name: str) -> bool:
        found, fresh, last = self.named[name].grad, self._fresh[name], self._last.get(name)
        if found is None or found.is_sparse or fresh.is_sparse or not bool(found.any()) or self._made[name] < 2:
            return False
        made = (fresh,) if last is None else (fresh, fresh + last)  # or nothing was ever cleared
        return all(torch.cosine_similarity(found.flatten(), x.flatten(), dim=0) < ALONG for x in made)

    def _holds_the_last(self, name: str) -> bool:
        found, last, fresh = self.named[name].grad, self._last.get(name), self._fresh[name]
        if found is None or last is None or found.is_sparse or fresh.is_sparse or not bool(last.any()):
            return False
        if torch.equal(found, fresh) or torch.allclose(found, fresh, rtol=1e-4, atol=1e-7):
            return False
        return bool((found - fresh - last).norm() <= SAME * last.norm())

    def taken(self) -> dict[str, float]:
        """The gradient norms of the step just made, as its optimizers found them; else as they stand."""
        found = gradient_norms(self.named) | self.norms
        self.norms = {}
        return found

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()


def gradient_norms(named: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Of those that have a gradient."""
    found = {name: p.grad.detach() for name, p in named.items() if p.grad is not None}
    return dict(zip(found, norms(list(found.values())), strict=True))


def norms(tensors: Sequence[torch.Tensor]) -> list[float]:
    """Euclidean, in float32 at least."""
    if any(x.is_sparse for x in tensors):
        return [float(x.float().norm()) for x in tensors]
    wide = [x if x.dtype is torch.float64 else x.float() for x in tensors]
    return [float(x) for x in torch._foreach_norm(wide)] if wide else []
