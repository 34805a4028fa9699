"""Whether the graphs of earlier losses are still in memory, and what keeps them there.

A node of a graph keeps a dictionary for whoever wants to tell it something. A token in there lives as long as the node.
"""

from __future__ import annotations

import weakref
from typing import Any

import psutil
import torch
from torch import Tensor

from diagnose.watch.keepers import TOKEN, Keeper, keeper
from diagnose.watch.sites import user_frame
from probes.results import Where

MARKED_STEPS = 40  # steps of each optimizer, from its making on, whose losses are followed
DEPTH = 6  # nodes of each, from the loss backwards: a scaled or divided loss keeps its parts alive
OLD = 3  # steps after which a graph has no business in memory
SEARCHED = (5, 10, 20)  # graphs in memory at which what keeps them is looked for

Site = tuple[Where, ...]


class _Token:
    __slots__ = ("__weakref__",)


class GraphWatch:
    """Tokens in the losses of each line that calls backward, one for each step."""

    def __init__(self) -> None:
        self.most = self.marked = self.grown = 0
        self.where: Site = ()
        self.kept_by = Keeper()
        self._until = MARKED_STEPS
        self._tokens: dict[Site, list[tuple[int, weakref.ref[_Token]]]] = {}
        self._counts: dict[Site, int] = {}
        self._memory = 0  # when what keeps them was first looked for

    def begin(self, step: int) -> None:
        """An optimizer was made after ``step`` steps of all."""
        self._until = step + MARKED_STEPS

    def wants(self, step: int) -> bool:
        return step <= self._until

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
            node.metadata[TOKEN] = token
            node = next((parent for parent, _ in node.next_functions if parent is not None), None)
        tokens[:] = [(marked, ref) for marked, ref in tokens if ref() is not None]
        tokens.append((step, weakref.ref(token)))
        self._counts[where] = self._counts.get(where, 0) + 1
        old = {id(kept) for marked, ref in tokens if marked <= step - OLD and (kept := ref()) is not None}
        if len(old) > self.most:
            self.most, self.where = len(old), where
            self._look(loss, old)
        if not self.most or where == self.where:
            self.marked = max(self.marked, self._counts[where]) if not self.most else self._counts[where]

    def _look(self, loss: Tensor, old: set[int]) -> None:
        now = _memory(loss)
        if len(old) in SEARCHED and not self.kept_by:
            self._memory = self._memory or now
            self.kept_by = keeper(user_frame(), old)
        if self._memory:
            self.grown = now - self._memory


def _memory(tensor: Tensor) -> int:
    """Bytes in use on the device of ``tensor``."""
    return torch.cuda.memory_allocated(tensor.device) if tensor.is_cuda else int(psutil.Process().memory_info().rss)
