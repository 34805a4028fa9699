"""Keeps one training step of the user's program: the model and optimizer before it, the batch, and the loss.

Only what cannot be mistaken is kept: one model, one optimizer, and for the loss one call of torch's or a loss that the
model returns itself. Where that does not hold, ``reason`` says why, and nothing of the step is judged.
"""

from __future__ import annotations

import functools
import inspect
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from diagnose.creation import CreationLog
from diagnose.training.metrics import main_output
from diagnose.watch.between import Link, applied, operations
from diagnose.watch.snapshot import CannotCopy, Snapshot
from probes.results import Where

MOST_BATCHES = 4  # as many as the probes look at
MOST_TRIES = 3  # calls of the model that come to no backward, such as one to see its shapes
SAME = 1e-5  # relative: a loss that enters backward alone, up to a factor
NEVER = "no forward of a model that was followed by a backward and a step"


@dataclass(frozen=True)
class LossSeen:
    """How a step's loss comes from the model's output.

    ``function`` of torch.nn.functional with ``settings``, on the output after ``links``; ``flat``: the target was given
    with its leading axes flattened. Or ``path``: the place in what the model returned. ``sign``: what it is multiplied
    by for backward, without the size. Neither: ``unknown`` says why.
    """

    value: float
    sign: int = 1
    function: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    links: Sequence[Link] = ()
    flat: bool = False
    path: tuple[Any, ...] = ()
    unknown: str = ""
    where: tuple[Where, ...] = ()


def _guarded(method: Callable[..., None]) -> Callable[..., None]:
    """What cannot be kept is not kept: the program's own objects may refuse anything."""

    @functools.wraps(method)
    def call(self: StepCapture, *args: Any, **kwargs: Any) -> None:
        if not self.wanted:
            return
        try:
            method(self, *args, **kwargs)
        except Exception as error:
            self.give_up(f"the step could not be kept ({type(error).__name__}: {error})")

    return call


@dataclass
class _Call:
    """One forward of the model, until its backward."""

    model: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    where: tuple[Where, ...]
    random: Any
    autocast: str
    output: Any = None
    losses: list[tuple[str, dict[str, Any], Tensor, tuple[Where, ...]]] = field(default_factory=list)


class StepCapture:
    """``done``: a step is kept. ``wanted``: there may still be something to keep."""

    def __init__(self, log: CreationLog, folder: Path | None = None) -> None:
        self.log, self._folder = log, folder
        self.reason = NEVER
        self.done, self.wanted = False, True
        self.snapshot: Snapshot | None = None
        self.loss: LossSeen | None = None
        self.call: _Call | None = None  # the one that is kept, without its tensors
        self.pretrained = False
        self.batch_size: int | None = None
        self.optimizer_at: tuple[Where, ...] = ()
        self._model: weakref.ref[nn.Module] | None = None
        self._open: _Call | None = None
        self._files: list[Any] = []
        self._inside = False
        self._backward = False  # is running: what is called in it repeats a part of the forward
        self._tries = 0
        self._fed: set[int] | None = None

    def give_up(self, reason: str) -> None:
        self.reason, self.wanted, self.done = reason, False, False
        self._open = self.call = self.snapshot = self.loss = None
        self._close()

    def _close(self) -> None:
        for file in self._files:
            file.close()
        self._files = []

    # -- forward ------------------------------------------------------------------------------------------------

    @_guarded
    def begins(self, module: nn.Module, args: Any, kwargs: Any, where: tuple[Where, ...]) -> None:
        """A model is called by the program, gradients on."""
        self._inside = False
        model = unwrapped(module)
        if self._backward or not any(p.requires_grad for p in model.parameters()):
            return
        if self._model is not None and self._model() is not model:
            self.give_up("several models are trained together")
            return
        self._model = weakref.ref(model)
        self._inside = True
        self._open = _Call(model, args, kwargs, where, _random_state(), _autocast())
        if self.loss is not None:
            return
        self._tries += 1
        if self._tries > MOST_TRIES:
            self.give_up("the model is called several times before one backward")
            return
        try:
            self.snapshot = Snapshot(model, self._folder)
        except CannotCopy as error:
            self.give_up(str(error))

    @_guarded
    def ends(self, output: Any) -> None:
        if self._inside and self._open is not None:
            self._open.output = output
        self._inside = False

    @_guarded
    def lost(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any, where: Any) -> None:
        """A loss function of torch gave ``result``."""
        if self._open is None or self._inside or not isinstance(result, Tensor) or not result.requires_grad:
            return
        bound = inspect.signature(getattr(functional, name)).bind(*args, **kwargs).arguments
        self._open.losses.append((name, dict(bound), result, where))

    # -- backward and step --------------------------------------------------------------------------------------

    @_guarded
    def before_backward(self, tensor: Any, where: tuple[Where, ...]) -> None:
        self._backward = True
        call = self._open
        if call is None or call.output is None:
            return
        if not isinstance(tensor, Tensor) or tensor.numel() != 1:
            self.give_up("backward is not called on one number")
            return
        if self.loss is None:
            loss, target = _understood(tensor, call, where)
            self.loss = loss
        else:
            target = _target_again(call, self.loss)
            if target is None and self.loss.function:
                self._open = None
                return
        self._keep(call, target)

    @_guarded
    def after_backward(self) -> None:
        self._backward = False
        if self._open is None:
            return
        if self._fed is None:
            self._fed = _fed(self._open.model)
            self.call = self._open
        self._release()

    def _release(self) -> None:
        """Graphs and batches are not held on to."""
        if self._open is not None:
            self._open.args, self._open.kwargs, self._open.output, self._open.losses = (), {}, None, []
        self._open = None

    def _keep(self, call: _Call, target: Any) -> None:
        given = _by_name(call)
        if given is None:
            self.give_up("the model's arguments have no names")
            return
        if len(self._files) < MOST_BATCHES:
            file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115  # closed with the capture
            weakref.finalize(self, file.close)
            torch.save({"given": given, "target": target}, file)
            self._files.append(file)

    @_guarded
    def steps(
        self, optimizer: Any, optimizers: int, where: tuple[Where, ...], loaded: set[int], batch_size: int | None
    ) -> None:
        """An optimizer is about to be stepped, of so many with trainable tensors. ``batch_size``: of the loader."""
        if self.snapshot is None or self.call is None:
            return
        if self.done:
            self.wanted = len(self._files) < MOST_BATCHES
            return
        model = self.call.model
        if optimizers > 1:
            self.give_up("several optimizers are at work")
        elif _fed(model) != self._fed:
            self.give_up("the gradients of a step come from several losses")
        elif not {id(p) for g in optimizer.param_groups for p in g["params"]} & {id(p) for p in model.parameters()}:
            self.give_up("the optimizer holds none of the model's tensors")
        else:
            try:
                self.snapshot.add(optimizer)
            except CannotCopy as error:
                self.give_up(str(error))
                return
            self.log.copied(model, self.snapshot.model)
            self.snapshot.seal()
            self.batch_size = batch_size
            self.pretrained = any(id(part) in loaded for part in model.modules())
            self.optimizer_at, self.done, self.reason = where, True, ""
            self.call.model = self.snapshot.model

    def batches(self) -> list[Any]:
        """What the model was called with and the target, as a loader would give them."""
        found = []
        for file in self._files:
            file.seek(0)
            kept = torch.load(file, weights_only=False)
            given, target = kept["given"], kept["target"]
            one = len(given) == 1 and isinstance(next(iter(given.values())), Tensor)
            inputs = next(iter(given.values())) if one else given
            found.append((inputs, target) if target is not None else (inputs,) if one else given)
        return found


def unwrapped(module: nn.Module) -> nn.Module:
    """The user's own module, out of what torch wraps around it to compile it or to train it on several devices."""
    inner = getattr(module, "_orig_mod", None)
    if inner is None and isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        inner = module.module
    return unwrapped(inner) if isinstance(inner, nn.Module) else module


def _random_state() -> Any:
    started = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return torch.get_rng_state(), torch.cuda.get_rng_state_all() if started else None


def _autocast() -> str:
    for kind in ("cuda", "cpu"):
        if torch.is_autocast_enabled(kind):
            return {torch.bfloat16: "bf16", torch.float16: "fp16"}.get(torch.get_autocast_dtype(kind), "")
    return "fp32"


def _fed(model: nn.Module) -> set[int]:
    return {id(p) for p in model.parameters() if p.grad is not None}


def _by_name(call: _Call) -> dict[str, Any] | None:
    """What the model was given, by the names of its forward; None where some of it has no name."""
    signature = inspect.signature(call.model.forward)
    bound = signature.bind(*call.args, **call.kwargs)
    kinds = {name: signature.parameters[name].kind for name in bound.arguments}
    named = dict(bound.arguments)
    for name, kind in kinds.items():
        if kind is inspect.Parameter.VAR_KEYWORD:
            named |= named.pop(name)
        elif kind is inspect.Parameter.VAR_POSITIONAL:
            if named[name]:
                return None
            named.pop(name)
        elif kind is inspect.Parameter.POSITIONAL_ONLY and len(bound.arguments) > 1:
            return None
    return {name: value for name, value in named.items() if value is not None} or None


def _understood(tensor: Tensor, call: _Call, where: tuple[Where, ...]) -> tuple[LossSeen, Any]:
    """(the loss, the target that it was given)"""
    value = float(tensor.detach())
    if (own := _own_loss(tensor, call.output)) is not None:
        path, leaf = own
        return LossSeen(float(leaf.detach()), _sign(value, float(leaf.detach())), path=path, where=where), None
    unknown: Callable[[str], tuple[LossSeen, Any]] = lambda why: (LossSeen(value, unknown=why, where=where), None)  # noqa: E731
    if len(call.losses) != 1:
        return unknown("the loss is made of several" if call.losses else "the loss is none of torch's own")
    name, given, result, at = call.losses[0]
    if result.numel() != 1 or not _alone(tensor, result):
        return unknown("the loss has further terms")
    entering, target = given.pop("input"), given.pop("target")
    output = main_output(call.output)
    links = operations(entering, output) if output is not None else None
    if links is None or output is None:
        return unknown("what is done with the model's output before the loss is not known")
    with torch.no_grad():
        again = applied(links, output.detach())
        same = again.shape == entering.shape and torch.allclose(again, entering, 0.0, 0.0, equal_nan=True)
    if not same or not isinstance(target, Tensor) or target.requires_grad:
        return unknown("what is done with the model's output before the loss is not known")
    leading = _leading(links, target)
    seen = LossSeen(
        float(result.detach()), _sign(value, float(result.detach())), name, given, links, leading is not None, where=at
    )
    return seen, target.detach() if leading is None else target.detach().reshape(leading)


def _target_again(call: _Call, loss: LossSeen) -> Any:
    """The target of a later batch, where its loss is made as the first one was."""
    if len(call.losses) != 1 or call.losses[0][0] != loss.function:
        return None
    target = call.losses[0][1].get("target")
    if not isinstance(target, Tensor):
        return None
    output = main_output(call.output)
    if loss.flat and output is not None:
        leading = output.shape[: output.ndim - 1]
        return target.detach().reshape(leading) if target.numel() == leading.numel() else None
    return target.detach()


def _leading(links: Sequence[Link], target: Tensor) -> tuple[int, ...] | None:
    """The leading axes that both output and target were flattened over, for the loss; None where they were not."""
    if not links or links[-1][0] != "reshape" or target.ndim != 1:
        return None
    shape = links[-1][2][:-1]
    flattened = len(links) == 1 and len(shape) > 1
    return shape if flattened and target.numel() == torch.Size(shape).numel() else None


def _alone(tensor: Tensor, result: Tensor) -> bool:
    """Whether ``tensor`` is ``result`` times a constant."""
    if tensor is result:
        return True
    (factor,) = torch.autograd.grad(tensor, [result], retain_graph=True, allow_unused=True)
    if factor is None:
        return False
    whole, part = float(tensor.detach()), float(factor) * float(result.detach())
    return abs(whole - part) <= SAME * abs(whole)


def _own_loss(tensor: Tensor, output: Any) -> tuple[tuple[Any, ...], Tensor] | None:
    """A number in what the model returned, which ``tensor`` is, up to a factor."""
    for path, leaf in _leaves(output, ()):
        if leaf.numel() == 1 and leaf.requires_grad and (leaf is tensor or _alone(tensor, leaf)):
            return path, leaf
    return None


def _leaves(output: Any, path: tuple[Any, ...]) -> list[tuple[tuple[Any, ...], Tensor]]:
    if isinstance(output, Tensor):
        return [(path, output)]
    if len(path) > 2:
        return []
    items: Any = output.items() if isinstance(output, Mapping) else ()
    if isinstance(output, (list, tuple)):
        items = enumerate(output)
    return [leaf for key, item in items for leaf in _leaves(item, (*path, key))]


def _sign(value: float, part: float) -> int:
    return -1 if value * part < 0 else 1
