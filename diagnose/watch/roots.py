"""Which models the program calls: the outermost modules, as they run."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

Ran = tuple[nn.Module, int, bool]  # a model, its serial among all calls, whether gradients were on in one of them


class RootBook:
    """``found(module)`` is told of each model when it is seen first, if it has parameters."""

    def __init__(self, found: Callable[[nn.Module], None]) -> None:
        self.serial = 0
        self._found = found
        self._ran: dict[int, Ran] = {}
        self._parameters_of: dict[int, frozenset[int]] = {}
        self._roots: dict[int, weakref.ref[nn.Module]] = {}
        self._alone: dict[int, weakref.ref[nn.Module]] = {}  # that were given something plain as well
        self._given: set[int] = set()  # that were given what another one made, with its graph

    def call(self, module: nn.Module, inputs: Iterable[Any] = ()) -> bool:
        """``module`` is about to run on ``inputs``; whether it has parameters."""
        key = id(module)
        tensors = [x for x in inputs if isinstance(x, Tensor)]
        if any(x.grad_fn is not None for x in tensors):
            self._given.add(key)
        elif tensors and (torch.is_grad_enabled() or module.training):
            self._alone[key] = weakref.ref(module)
        self.serial += 1
        earlier = self._ran.get(key)
        graded = torch.is_grad_enabled() or (earlier is not None and earlier[2])
        self._ran[key] = (module, self.serial, graded)
        if key not in self._roots or self._roots[key]() is not module:
            self._roots[key] = weakref.ref(module)
            self._parameters_of[key] = frozenset(id(p) for p in module.parameters())
            if self._parameters_of[key]:
                self._found(module)
        return bool(self._parameters_of[key])

    def forget(self) -> None:
        """Models are held only while they are looked at."""
        self._ran, self._given = {}, set()

    def continues(self, module: nn.Module) -> bool:
        """Whether it is only given what gradients go back through: the outputs of another model. One that compares
        these with plain data, say, is a yardstick."""
        alone = self._alone.get(id(module))
        return id(module) in self._given and (alone is None or alone() is not module)

    def since(self, serial: int) -> list[nn.Module]:
        """Models that ran with gradients after that call."""
        return [module for module, number, graded in self._ran.values() if graded and number > serial]

    def parameters(self, module: nn.Module) -> frozenset[int]:
        """Ids."""
        return self._parameters_of.get(id(module), frozenset())

    def parameters_of(self, keys: set[int]) -> set[int]:
        """Ids of the parameters of models that are told by their ids."""
        return set().union(*(self._parameters_of.get(key, frozenset()) for key in keys))

    def holding(self, held: set[int]) -> list[nn.Module]:
        """Models with one of these parameters, as far as they are still there."""
        living = [model for ref in self._roots.values() if (model := ref()) is not None]
        return [model for model in living if not held.isdisjoint(self._parameters_of[id(model)])]
