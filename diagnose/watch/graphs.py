"""Whether the graphs of earlier losses are still in memory.

A node of a graph keeps a dictionary for whoever wants to tell it something. A token in there lives as long as the node.
"""

from __future__ import annotations

import weakref
from typing import Any

from torch import Tensor

from probes.results import Where

MARKED_STEPS = 40  # first steps whose losses are followed
DEPTH = 6  # nodes of each, from the loss backwards: a scaled or divided loss keeps its parts alive
OLD = 3  # steps after which a graph has no business in memory

Site = tuple[Where, ...]


class _Token:
    __slots__ = ("__weakref__",)


class GraphWatch:
    """Tokens in the losses of each line that calls backward, one for each step."""

    def __init__(self) -> None:
        self.most = self.marked = 0
        self.where: Site = ()
        self._tokens: dict[Site, list[tuple[int, weakref.ref[_Token]]]] = {}

    def mark(self, loss: Tensor, step: int, where: Site) -> None:
        """Before backward is called on ``loss``, after ``step`` optimizer steps."""
        tokens = self._tokens.setdefault(where, [])
        if tokens and tokens[-1][0] == step:
            return
        token = _Token()
        node: Any = loss.grad_fn
        for _ in range(DEPTH):
            if node is None or not hasattr(node, "metadata") or type(node).__name__ == "AccumulateGrad":
                break
            node.metadata["diagnose"] = token
            node = next((parent for parent, _ in node.next_functions if parent is not None), None)
        tokens.append((step, weakref.ref(token)))
        alive = sum(ref() is not None for marked, ref in tokens if marked <= step - OLD)
        if alive > self.most:
            self.most, self.where = alive, where
        if not self.most or where == self.where:
            self.marked = max(self.marked, len(tokens)) if not self.most else len(tokens)
