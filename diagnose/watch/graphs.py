"""Whether the graphs of earlier losses are still in memory.

A node of a graph keeps a dictionary for whoever wants to tell it something. A token in there lives as long as the node.
"""

from __future__ import annotations

import weakref
from typing import Any

from torch import Tensor

from probes.results import Where

MARKED = 10  # losses
DEPTH = 6  # nodes of each, from the loss backwards: a scaled or divided loss keeps its parts alive


class _Token:
    __slots__ = ("__weakref__",)


class GraphWatch:
    def __init__(self) -> None:
        self._tokens: list[weakref.ref[_Token]] = []
        self.where: tuple[Where, ...] = ()

    @property
    def full(self) -> bool:
        return len(self._tokens) >= MARKED

    @property
    def marked(self) -> int:
        return len(self._tokens)

    def mark(self, loss: Tensor, where: tuple[Where, ...]) -> None:
        token = _Token()
        node: Any = loss.grad_fn
        for _ in range(DEPTH):
            if node is None or not hasattr(node, "metadata") or type(node).__name__ == "AccumulateGrad":
                break
            node.metadata["diagnose"] = token
            following = [parent for parent, _ in node.next_functions if parent is not None]
            node = following[0] if following else None
        self._tokens.append(weakref.ref(token))
        self.where = self.where or where

    def retained(self) -> int:
        return sum(token() is not None for token in self._tokens)
