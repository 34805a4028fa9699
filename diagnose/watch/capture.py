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
from diagnose.watch.loss_seen import LossCall, LossSeen, loss_of, target_again
from diagnose.watch.snapshot import CannotCopy, Snapshot
from probes.results import Where

MOST_BATCHES = 4  # as many as the probes look at
MOST_LOOKS = 12  # steps looked at when as many are kept: for a batch of other lengths than these
MOST_TRIES = 3  # calls of the model that come to no backward, such as one to see its shapes
NEVER = "no forward of a model that was followed by a backward and a step"


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
    losses: list[LossCall] = field(default_factory=list)


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
        self._shapes: set[tuple[int, ...] | None] = set()  # of the tokens in them, of any batch
        self._looks = 0
        self._inside = False
        self._backward = False  # is running: what is called in it repeats a part of the forward
        self._tries = 0
        self._fed: set[int] | None = None

    def give_up(self, reason: str) -> None:
        """Enough batches that were kept stay so."""
        if self.done and len(self._files) == MOST_BATCHES:
            self.wanted = False
            self._release()
            return
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
            loss, target = loss_of(tensor, call.output, call.losses, where)
            self.loss = loss
        else:
            target = target_again(call.output, call.losses, self.loss)
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
        shape = _tokens(given)
        if len(self._files) < MOST_BATCHES or shape not in self._shapes:
            file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115  # closed with the capture
            weakref.finalize(self, file.close)
            torch.save({"given": given, "target": target}, file)
            self._files = [*self._files[: MOST_BATCHES - 1], file]
            self._shapes.add(shape)

    @_guarded
    def steps(
        self, optimizer: Any, optimizers: int, where: tuple[Where, ...], loaded: set[int], batch_size: int | None
    ) -> None:
        """An optimizer is about to be stepped, of so many with trainable tensors. ``batch_size``: of the loader."""
        if self.snapshot is None or self.call is None:
            return
        if self.done:
            self._looks += len(self._files) == MOST_BATCHES
            alike = self._shapes != {None} and len(self._shapes) == 1 and self._looks <= MOST_LOOKS
            self.wanted = len(self._files) < MOST_BATCHES or alike
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


def _tokens(given: Mapping[str, Any]) -> tuple[int, ...] | None:
    """The length of the sequences of tokens that a model is given; None where it is given none."""
    tensors = [x for x in given.values() if isinstance(x, Tensor) and x.ndim == 2]
    return tuple(x.shape[1] for x in tensors if x.dtype in (torch.int64, torch.int32)) or None


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
