"""State dicts that the program takes of its models, and how long it keeps them.

Followed by weak references to a few of their tensors, so nothing is held: a state dict that is used at once is gone
before the next step. One that lives on while the model is trained holds the latest weights, whatever it was kept for.
"""

from __future__ import annotations

import re
import sys
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from itertools import pairwise
from types import FunctionType
from typing import Any

from torch import Tensor, nn

from probes.records.loop import WeightsSeen
from probes.results import Where

SOME = 4  # tensors of each state dict by which it is known again
MOST = 1024  # state dicts that are followed at once
LAST = 32  # of those of one line that lived on over steps and are gone
UNHEARD = "safetensors.torch"  # writes weights by a way that is not followed
# What a variable is called in which weights are kept for later. Not a checkpoint: that is often made anew in every
# epoch, saved in some, and lives on in the others although nobody wants it.
FOR_LATER = re.compile(r"(?<![a-z])(best|top|optimal|backup|snapshots?|kept|restore)(?![a-z])", re.IGNORECASE)


class _Taken:
    """``until``: optimizer steps when it was let go; None while it is kept. ``used``: it was saved or loaded while it
    was new, so it is no copy that was forgotten. ``trained``: the model has changed while it was kept. ``name``: of the
    variable it went into. ``chosen``: because some number was better than another."""

    def __init__(
        self, model: nn.Module, steps: int, where: tuple[Where, ...], name: str, *, chosen: bool = False
    ) -> None:
        self.steps, self.where, self.name, self.chosen = steps, where, name, chosen
        self.until: int | None = None
        self.used = self.trained = False
        self.refs: dict[int, weakref.ref[Tensor]] = {}
        moving = [p for p in model.parameters() if p.requires_grad and not p.is_inference()][:SOME]
        self._versions = [(weakref.ref(p), p._version) for p in moving]

    def look(self) -> None:
        self.trained = any((p := ref()) is not None and p._version != version for ref, version in self._versions)

    def lived_on(self) -> bool:
        return self.trained and not self.used and self.until is not None and self.until > self.steps > 0


class _Waiting:
    """State dicts that one line took and that were not loaded at once."""

    def __init__(self) -> None:
        self._first = self._count = 0

    def take(self, steps: int) -> None:
        if not self._count or not self._first:  # of those before the first step, only the last one
            self._first, self._count = steps, 0
        self._count += 1

    def load(self, steps: int) -> int:
        """One is loaded at once: the steps since the first of the others, 0 where there is none."""
        self._count -= 1
        return steps - self._first if self._count > 0 else 0


class KeptStates:
    def __init__(self) -> None:
        self.steps = 0  # of all optimizers
        self._unheard_before = UNHEARD in sys.modules
        self._living: dict[int, _Taken] = {}
        self._gone: dict[tuple[Where, ...], deque[_Taken]] = {}  # those that lived on, by the line that took them
        self._used: set[tuple[Where, ...]] = set()  # lines whose state dicts are saved or loaded
        self._by_tensor: dict[int, _Taken] = {}
        self._waiting: dict[tuple[Where, ...], _Waiting] = {}  # by the line that took them
        self._latest: weakref.WeakKeyDictionary[nn.Module, _Taken] = weakref.WeakKeyDictionary()

    def take(
        self, model: nn.Module, state: Mapping[str, Any], steps: int, where: tuple[Where, ...], name: str,
        *, chosen: bool = False,
    ) -> None:  # fmt: skip
        """``model.state_dict()`` returned ``state``. The others: as of ``_Taken``."""
        taken = _Taken(model, steps, where, name, chosen=chosen)
        self._waiting.setdefault(where, _Waiting()).take(steps)
        self._latest[model] = taken
        if len(self._living) >= MOST:
            return
        for tensor in [value for value in state.values() if isinstance(value, Tensor)][:SOME]:
            taken.refs[id(tensor)] = weakref.ref(tensor, self._let_go(taken))
            self._by_tensor[id(tensor)] = taken
        if taken.refs:
            self._living[id(taken)] = taken

    def _let_go(self, taken: _Taken) -> Callable[[Any], None]:
        def gone(ref: Any) -> None:
            if taken.until is None and all(other() is None for other in taken.refs.values()):
                taken.until = self.steps
                taken.look()
                self._drop(taken)

        return gone

    def _drop(self, taken: _Taken) -> None:
        """It is gone. What it is followed by is given up, and so is all of it if it did not live on."""
        self._living.pop(id(taken), None)
        for key in taken.refs:
            if self._by_tensor.get(key) is taken:  # else a later tensor is at the same place
                del self._by_tensor[key]
        if taken.lived_on():
            self._gone.setdefault(taken.where, deque(maxlen=LAST)).append(taken)

    def origin(self, state: Mapping[str, Any]) -> _Taken | None:
        """Of a state dict, or of a mapping that holds the same tensors."""
        for value in state.values():
            taken = self._by_tensor.get(id(value))
            if taken is not None and taken.refs[id(value)]() is value:
                return taken
        return None

    def restored(self, taken: _Taken) -> int:
        """It is loaded into its own model while it is new, which changes nothing: meant to bring back better weights,
        where the program keeps it for that. For how many steps an earlier one of its line was kept; 0 where that is not
        so, as where each is loaded at once."""
        taken.look()
        if taken.trained:  # or written into: the changed weights are what is loaded
            return 0
        named = bool(FOR_LATER.search(taken.name))
        gone = max(((other.until or 0) - other.steps for other in self._gone.get(taken.where, ())), default=0)
        since = self._waiting[taken.where].load(taken.steps)
        return gone if named and gone else since if named or taken.chosen else 0

    def latest(self, model: nn.Module) -> _Taken | None:
        """The last state dict of a model: another mapping on its memory was made of it, or of an earlier one."""
        return self._latest.get(model)

    def used(self, state: Mapping[str, Any], steps: int) -> None:
        """It is being saved, or loaded into another model."""
        taken = self.origin(state)
        if taken is not None and taken.steps == steps:
            taken.used = True
            self._used.add(taken.where)

    def _unheard(self) -> bool:
        """Whether the program may have saved them with safetensors: it was imported meanwhile, or is at hand."""
        module = sys.modules.get(UNHEARD)
        names = vars(sys.modules["__main__"]).values()
        at_hand = any(v is module or (isinstance(v, FunctionType) and v.__module__ == UNHEARD) for v in list(names))
        return module is not None and (not self._unheard_before or at_hand)

    def forgotten(self) -> list[WeightsSeen]:
        """Those that the program kept, while it went on training, as if they were copies: under a name that says so, or
        several of one line at once. What was taken before the first step may be a view on the model on purpose, and
        what one line takes is not forgotten if some of it was saved at once."""
        if self._unheard():
            return []
        by_line = {where: [(taken, taken.until or 0) for taken in list(gone)] for where, gone in self._gone.items()}
        for taken in list(self._living.values()):
            taken.look()
            if taken.trained and not taken.used and self.steps > taken.steps > 0:
                by_line.setdefault(taken.where, []).append((taken, self.steps))
        found = []
        for where, entries in by_line.items():
            if not where or where in self._used:
                continue
            entries.sort(key=lambda entry: entry[0].steps)
            overlap = any(until > later.steps for (_, until), (later, _) in pairwise(entries))
            named = next((taken.name for taken, _ in entries if FOR_LATER.search(taken.name)), "")
            if overlap or named:
                longest = max(until - taken.steps for taken, until in entries)
                found.append(WeightsSeen("kept", longest, where, where, (named,) if named else ()))
        return found
