"""What is done with weights: state dicts taken, kept, loaded and saved, and checkpoints that are read.

A state dict shares its memory with the model: kept without a copy it holds the latest weights, not the best ones.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from diagnose.watch.kept import KeptStates
from probes.records.loop import WeightsSeen
from probes.results import Where

MOST_RECORDS = 50
MOST_DEPTH = 4  # of a saved object that is looked through
SOME = 64  # elements of a loaded matrix that are remembered


class WeightsWatch:
    """``steps`` are optimizer steps of all optimizers so far, told with every call."""

    def __init__(self) -> None:
        self.seen: list[WeightsSeen] = []
        self.loaded: set[int] = set()  # ids of modules that weights were loaded into
        self.kept = KeptStates()
        self._models: dict[int, weakref.ref[nn.Module]] = {}
        self._initial: dict[int, dict[str, Tensor]] = {}
        self._files: list[Any] = []  # (key of a model's tensor in it, groups of the optimizer's in it)
        self._resumed: list[tuple[WeightsSeen, Sequence[Any], weakref.ref[nn.Module], Mapping[str, Tensor]]] = []
        self._saved_late: dict[int, tuple[int, WeightsSeen]] = {}
        self._restored: weakref.WeakSet[Any] = weakref.WeakSet()  # optimizers that were given a state
        self._rescheduled: weakref.WeakKeyDictionary[Any, tuple[Where, ...]] = weakref.WeakKeyDictionary()

    def model(self, module: nn.Module) -> None:
        """A model that is trained, when it is seen first."""
        self._models[id(module)] = weakref.ref(module)
        self._initial[id(module)] = {
            name: buffer.detach().clone() for name, buffer in _buffers(module) if buffer.numel() <= 4096
        }

    def load(self, module: nn.Module, state: Any, steps: int, where: tuple[Where, ...]) -> None:
        """``module.load_state_dict(state)`` is about to be called."""
        self.loaded.update(id(part) for part in module.modules())
        if not isinstance(state, Mapping):
            return
        own = {name: tensor for name, tensor in module.state_dict().items() if isinstance(tensor, Tensor)}
        pairs = [(state[name], mine) for name, mine in own.items() if isinstance(state.get(name), Tensor)]
        pairs = [(given, mine) for given, mine in pairs if mine.numel()]
        origin = self.kept.origin(state) or self.kept.latest(module)
        shared = bool(pairs) and all(given.data_ptr() == mine.data_ptr() for given, mine in pairs)
        if shared and origin is not None and origin.steps < steps:
            self._add(WeightsSeen("self-load", steps - origin.steps, where, origin.where))
        if shared and origin is not None and origin.steps == steps and (kept := self.kept.restored(origin)):
            self._add(WeightsSeen("kept", kept, where, origin.where, (origin.name,) if origin.name else ()))
        if not shared:
            self.kept.used(state, steps)
        for keys, groups in self._files:
            if groups and keys & {id(given) for given, _ in pairs}:
                wide = [name for name, p in module.named_parameters() if p.ndim > 1]
                matrices = {name: _some(state[name]) for name in wide if isinstance(state.get(name), Tensor)}
                self._resumed.append((WeightsSeen("resume", steps, where), groups, weakref.ref(module), matrices))

    def read(self, loaded: Any) -> None:
        """``torch.load`` returned this."""
        if isinstance(loaded, nn.Module):
            self.loaded.update(id(part) for part in loaded.modules())
        groups = [g for item in _walk(loaded) if (g := _optimizer_state(item)) is not None]
        keys = {id(value) for item in _walk(loaded) if isinstance(item, Mapping) for value in item.values()
                if isinstance(value, Tensor)}  # fmt: skip
        if groups and keys:
            self._files = [*self._files[-3:], (keys, groups)]

    def save(self, saved: Any, steps: int, where: tuple[Where, ...]) -> None:
        """``torch.save`` is about to write this."""
        for item in _walk(saved):
            if isinstance(item, Mapping):
                self.kept.used(item, steps)
                self._self_save(item, steps, where)
                self._bare_save(item, where)
            elif isinstance(item, (list, tuple)) and item and all(isinstance(value, Tensor) for value in item):
                self._bare_list(item, where)

    def _self_save(self, state: Mapping[str, Any], steps: int, where: tuple[Where, ...]) -> None:
        origin = self.kept.origin(state)
        live = [p for ref in self._models.values() if (m := ref()) is not None for p in m.state_dict().values()]
        pointers = {p.data_ptr() for p in live if isinstance(p, Tensor) and p.numel()}
        values = [value for value in state.values() if isinstance(value, Tensor) and value.numel()]
        if origin is None or not 0 < origin.steps < steps or not values:
            return
        if not all(value.data_ptr() in pointers for value in values):
            return
        key = id(next(value for value in state.values() if isinstance(value, Tensor)))
        times = self._saved_late[key][0] if key in self._saved_late else 0
        self._saved_late[key] = (times + 1, WeightsSeen("self-save", steps - origin.steps, where, origin.where))

    def _bare_save(self, state: Mapping[str, Any], where: tuple[Where, ...]) -> None:
        names = {str(key).removeprefix("module.") for key, value in state.items() if isinstance(value, Tensor)}
        for model in self._living():
            parameters = {name for name, _ in model.named_parameters()}
            left = [name for name in self._changed(model) if name not in names]
            saved = any(
                n in names and buffer.is_floating_point() for n, buffer in _buffers(model)
            )  # else a mere counter
            if parameters and parameters <= names and left and not saved:
                self._add(WeightsSeen("bare-save", 0, where, names=tuple(left)))

    def _bare_list(self, tensors: Sequence[Tensor], where: tuple[Where, ...]) -> None:
        for model in self._living():
            parameters = list(model.parameters())
            left = self._changed(model)
            if left and len(tensors) == len(parameters) and all(
                t.shape == p.shape for t, p in zip(tensors, parameters, strict=True)
            ):  # fmt: skip
                self._add(WeightsSeen("bare-save", 0, where, names=tuple(left)))

    def _living(self) -> Iterator[nn.Module]:
        for ref in self._models.values():
            if (model := ref()) is not None:
                yield model

    def _changed(self, model: nn.Module) -> list[str]:
        """Persistent buffers that training has changed."""
        initial = self._initial.get(id(model), {})
        return [
            name for name, buffer in _buffers(model)
            if name in initial and initial[name].shape == buffer.shape
            and not torch.equal(initial[name], buffer.detach().to(initial[name].device))
        ]  # fmt: skip

    def _add(self, seen: WeightsSeen) -> None:
        if len(self.seen) < MOST_RECORDS:
            self.seen.append(seen)

    def before_first_step(self) -> None:
        """Weights that were written anew since they were loaded, such as a head, are trained from a new beginning."""
        self._resumed = [entry for entry in self._resumed if _as_loaded(entry[2](), entry[3])]

    def stepped(self, optimizer: Any, steps: int) -> None:
        """An optimizer makes its first step: does it go on from a checkpoint without the state that was in it?"""
        for seen, groups, *_ in [] if optimizer in self._restored else self._resumed[-1:]:
            if _continues(optimizer, groups):
                self._add(seen)
        self._resumed.clear()
        where = self._rescheduled.pop(optimizer, None)
        if where is not None and optimizer not in self._restored and _remembers(optimizer):
            self._add(WeightsSeen("resume", steps, where, names=("scheduler",)))

    def restored(self, optimizer: Any) -> None:
        """``optimizer.load_state_dict()`` was called."""
        self._restored.add(optimizer)

    def rescheduled(self, scheduler: Any, where: tuple[Where, ...]) -> None:
        """``scheduler.load_state_dict()`` was called."""
        optimizer = getattr(scheduler, "optimizer", None)
        if optimizer is not None and getattr(scheduler, "last_epoch", 0) > 0:
            self._rescheduled[getattr(optimizer, "optimizer", optimizer)] = where

    def records(self) -> tuple[WeightsSeen, ...]:
        late = (seen for times, seen in self._saved_late.values() if times == 1)
        return (*self.seen, *late, *self.kept.forgotten())


def _buffers(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for path, part in module.named_modules():
        for name, buffer in part.named_buffers(recurse=False):
            if name not in part._non_persistent_buffers_set:
                yield f"{path}.{name}" if path else name, buffer


def _as_loaded(module: nn.Module | None, loaded: Mapping[str, Tensor]) -> bool:
    """Whether these matrices of a module still are what was loaded."""
    now = {} if module is None else dict(module.named_parameters())
    return all(torch.equal(_some(now[name]), value) for name, value in loaded.items() if name in now)


def _some(tensor: Tensor) -> Tensor:
    """A few elements, on the CPU."""
    return tensor.detach().reshape(-1)[:SOME].float().cpu().clone()


def _walk(saved: Any, depth: int = 0) -> Iterator[Any]:
    """The containers of an object that is saved or loaded."""
    if isinstance(saved, (Mapping, list, tuple)):
        yield saved
        if depth < MOST_DEPTH:
            for value in list(saved.values() if isinstance(saved, Mapping) else saved)[:64]:
                yield from _walk(value, depth + 1)


def _optimizer_state(item: Any) -> list[Any] | None:
    """The groups of an optimizer's state dict that holds some state."""
    if isinstance(item, Mapping) and {"state", "param_groups"} <= set(item) and item["state"]:
        return list(item["param_groups"])
    return None


def _remembers(optimizer: Any) -> bool:
    """Whether its next step depends on its earlier ones; plain SGD's does not."""
    return type(optimizer).__name__ != "SGD" or any(group.get("momentum") for group in optimizer.param_groups)


def _continues(optimizer: Any, groups: Sequence[Any]) -> bool:
    """Whether an optimizer is the one whose state was in the file: as many tensors, and the same settings. Somebody who
    starts anew from old weights changes the learning rate, the head, or the optimizer."""
    for saved in groups:
        if len(saved) != len(optimizer.param_groups):
            continue
        alike = all(
            len(old["params"]) == len(new["params"])
            and {k for k in old if k not in {"params", "initial_lr"}} <= {*new, "initial_lr"}
            and old.get("initial_lr", old.get("lr")) == new.get("initial_lr", new.get("lr"))
            for old, new in zip(saved, optimizer.param_groups, strict=True)
        )
        if alike:
            return True
    return False
