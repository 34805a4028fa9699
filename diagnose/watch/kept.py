"""State dicts that the program takes of its models, and how long it keeps them.

Followed by weak references to a few of their tensors, so nothing is held: a state dict that is used at once is gone
before the next step. One that lives on while the model is trained holds the latest weights, whatever it was kept for.
"""

from __future__ import annotations

import re
import sys
import weakref
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any

from torch import Tensor, nn

from probes.records.loop import WeightsSeen
from probes.results import Where

SOME = 4  # tensors of each state dict by which it is known again
MOST = 1024  # state dicts that are followed
UNHEARD = "safetensors.torch"  # writes weights by a way that is not followed
# What a variable is called in which weights are kept for later.
FOR_LATER = re.compile(
    r"(?<![a-z])(best|top|optimal|backup|snapshots?|saved|kept|restore|checkpoints?|ckpt)(?![a-z])", re.IGNORECASE
)


class _Taken:
    """``until``: optimizer steps when it was let go; None while it is kept. ``used``: it was saved or loaded while it
    was new, so it is no copy that was forgotten. ``trained``: the model has changed while it was kept. ``name``: of the
    variable it went into."""

    def __init__(self, model: nn.Module, steps: int, where: tuple[Where, ...], name: str) -> None:
        self.steps, self.where, self.name = steps, where, name
        self.until: int | None = None
        self.used = self.trained = False
        self.refs: list[weakref.ref[Tensor]] = []
        moving = [p for p in model.parameters() if p.requires_grad and not p.is_inference()][:SOME]
        self._versions = [(weakref.ref(p), p._version) for p in moving]

    def look(self) -> None:
        self.trained = any((p := ref()) is not None and p._version != version for ref, version in self._versions)


class KeptStates:
    def __init__(self) -> None:
        self.steps = 0  # of all optimizers
        self._unheard_before = UNHEARD in sys.modules
        self._all: list[_Taken] = []
        self._by_tensor: dict[int, tuple[weakref.ref[Tensor], _Taken]] = {}

    def take(self, model: nn.Module, state: Mapping[str, Any], steps: int, where: tuple[Where, ...], name: str) -> None:
        """``model.state_dict()`` returned ``state``."""
        if len(self._all) >= MOST:
            return
        taken = _Taken(model, steps, where, name)
        for tensor in [value for value in state.values() if isinstance(value, Tensor)][:SOME]:
            ref = weakref.ref(tensor, self._let_go(taken))
            taken.refs.append(ref)
            self._by_tensor[id(tensor)] = (ref, taken)
        if taken.refs:
            self._all.append(taken)

    def _let_go(self, taken: _Taken) -> Callable[[Any], None]:
        def gone(ref: Any) -> None:
            if taken.until is None and all(other() is None for other in taken.refs):
                taken.until = self.steps
                taken.look()

        return gone

    def origin(self, state: Mapping[str, Any]) -> _Taken | None:
        """Of a state dict, or of a mapping that holds the same tensors."""
        for value in state.values():
            ref, taken = self._by_tensor.get(id(value), (None, None))
            if ref is not None and ref() is value:
                return taken
        return None

    def used(self, state: Mapping[str, Any], steps: int) -> None:
        """It is being saved, or loaded into another model."""
        taken = self.origin(state)
        if taken is not None and taken.steps == steps:
            taken.used = True

    def _unheard(self) -> bool:
        """Whether the program may have saved them with safetensors: it was imported meanwhile, or is at hand."""
        module = sys.modules.get(UNHEARD)
        names = vars(sys.modules["__main__"]).values()
        at_hand = any(v is module or (isinstance(v, FunctionType) and v.__module__ == UNHEARD) for v in list(names))
        return module is not None and (not self._unheard_before or at_hand)

    def forgotten(self) -> list[WeightsSeen]:
        """Those that the program kept, while it went on training, as if they were copies: under a name that says so, or
        several of one line at once. What was taken before the first step may be a view on the model on purpose."""
        if self._unheard():
            return []
        for taken in self._all:
            if taken.until is None:
                taken.look()
        lived = [(t, (self.steps if t.until is None else t.until)) for t in self._all if t.trained and not t.used]
        kept = [(t, until) for t, until in lived if until > t.steps > 0]
        by_line: dict[tuple[Where, ...], list[tuple[_Taken, int]]] = {}
        for taken, until in kept:
            by_line.setdefault(taken.where, []).append((taken, until))
        found = []
        for where, entries in by_line.items():
            overlap = any(until > entries[i + 1][0].steps for i, (_, until) in enumerate(entries[:-1]))
            named = next((taken.name for taken, _ in entries if FOR_LATER.search(taken.name)), "")
            if where and (overlap or named):
                longest = max(until - taken.steps for taken, until in entries)
                found.append(WeightsSeen("kept", longest, where, where, (named,) if named else ()))
        return found
