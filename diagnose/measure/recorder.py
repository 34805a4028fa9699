"""What happens inside the user's forward and loss: calls of torch's losses, and where their inputs come from."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable
from inspect import signature
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

from diagnose.user_code import innermost_user_frame
from probes.records.forward import LossCall, Origin

if TYPE_CHECKING:
    from torch import Tensor, nn

LOSSES = frozenset(
    {
        "binary_cross_entropy", "binary_cross_entropy_with_logits", "cosine_embedding_loss", "cross_entropy",
        "ctc_loss", "gaussian_nll_loss", "hinge_embedding_loss", "huber_loss", "kl_div", "l1_loss",
        "margin_ranking_loss", "mse_loss", "multi_margin_loss", "multilabel_margin_loss", "multilabel_soft_margin_loss",
        "nll_loss", "poisson_nll_loss", "smooth_l1_loss", "soft_margin_loss", "triplet_margin_loss",
    }
)  # fmt: skip
WATCHED = frozenset({"softmax", "log_softmax", "sigmoid", "tanh", "detach", "relu", "dropout"})
ORIGINS = frozenset(
    {"softmax", "log_softmax", "sigmoid", "hardsigmoid", "logsigmoid", "tanh", "relu", "relu6", "softplus", "linear"}
)
CUTS = frozenset({"clamp", "clip"})
KEEPS_VALUES = frozenset(
    {"clone", "contiguous", "float", "double", "to", "reshape", "flatten", "squeeze", "unsqueeze", "cat", "concat"}
)
SQUASHED = frozenset({"softmax", "sigmoid"})
PICKS = frozenset({"__getitem__", "gather", "take_along_dim", "index_select", "select"})
SUBTRACTIONS = frozenset({"sub", "__sub__", "rsub", "__rsub__", "subtract"})
MAX_MARKS = 64  # tensors whose origin is remembered; only the last ones can reach a loss


class LossRecorder(TorchFunctionMode):
    """Sees every call of a known loss function of torch, however deep in the user's code, and what put out its input.

    A tensor's origin is known by its storage, so it survives views; any other operation makes a new one.
    ``running`` tells the path and the module whose forward is running, if any.
    """

    def __init__(self, running: Callable[[], tuple[str, nn.Module] | None] = lambda: None) -> None:
        super().__init__()
        self.calls: list[LossCall] = []
        self.functions: list[str] = []
        self.unstable_logs: list[Origin] = []
        self.broadcasts: list[LossCall] = []
        self._running = running
        self._marks: OrderedDict[int, tuple[Tensor, Origin]] = OrderedDict()
        self._picked: OrderedDict[int, tuple[Tensor, Origin]] = OrderedDict()  # single values, of which a log matters
        self._inside = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if self._inside:
            return func(*args, **kwargs)
        if name in WATCHED and name not in self.functions:
            self.functions.append(name)
        if name in LOSSES and getattr(func, "__module__", "") == "torch.nn.functional":
            self._record(func, args, kwargs)
        elif name == "log":
            self._log(args)
        elif name in SUBTRACTIONS:
            self._subtraction(args)
        self._inside += 1
        try:
            result = func(*args, **kwargs)
        finally:
            self._inside -= 1
        self._mark(name, args, result)
        return result

    def origin(self, tensor: Any) -> Origin | None:
        """What put out the values of ``tensor``, if that was one of ``ORIGINS``; or "clamp", of a linear layer's."""
        mark = self._marks.get(_storage(tensor)) if isinstance(tensor, torch.Tensor) else None
        if mark is None or (mark[1].function == "linear" and not tensor.is_contiguous()):  # transposed since
            return None
        return mark[1]

    def _mark(self, name: str, args: tuple[Any, ...], result: Any) -> None:
        if not isinstance(result, torch.Tensor):
            return
        plain_name = name.rstrip("_") if not name.startswith("__") else name
        if plain_name in ORIGINS:
            if plain_name == "linear" and not result.is_contiguous():
                return
            self._remember(result, self._here(plain_name))
        elif plain_name in CUTS and (cut := self.origin(args[0] if args else None)) and cut.function == "linear":
            self._remember(result, self._here("clamp"))
        elif name in KEEPS_VALUES and args:
            parts = args[0] if isinstance(args[0], (tuple, list)) else args[:1]
            origins = [self.origin(part) for part in parts]
            first = origins[0] if origins else None
            alike = first is not None and all(o is not None and o.function == first.function for o in origins)
            if first is not None and alike and first.function != "linear":
                self._remember(result, first)
        elif name in PICKS and args and (source := self.origin(args[0])) and source.function in SQUASHED:
            _keep(self._picked, result, source)
        elif (name.endswith("_") and not name.endswith("__")) or name.startswith("__i"):
            self._picked.pop(_storage(result), None)
            self._marks.pop(_storage(result), None)  # changed in place: no longer what the function put out

    def _remember(self, tensor: Tensor, origin: Origin) -> None:
        _keep(self._marks, tensor, origin)

    def _here(self, function: str) -> Origin:
        where = innermost_user_frame(sys._getframe(1))
        running = self._running()
        torchs_own = running is not None and type(running[1]).__module__.startswith("torch.nn")
        module = running[0] if running is not None and torchs_own else ""
        return Origin(function, module, () if where is None else (where,))

    def _log(self, args: tuple[Any, ...]) -> None:
        origin = self.origin(args[0]) if args else None
        if origin is None and args and isinstance(args[0], torch.Tensor) and _storage(args[0]) in self._picked:
            origin = self._picked[_storage(args[0])][1]
        if origin is not None and origin.function in SQUASHED:
            self.unstable_logs.append(self._here(origin.function))

    def _subtraction(self, args: tuple[Any, ...]) -> None:
        pair = [arg for arg in args[:2] if isinstance(arg, torch.Tensor)]
        if len(pair) != 2 or pair[0].requires_grad == pair[1].requires_grad:
            return
        first, second = pair if pair[0].requires_grad else pair[::-1]
        shapes = sorted((tuple(first.shape), tuple(second.shape)), key=len)
        if len(shapes[0]) == 1 and shapes[1] == (shapes[0][0], 1) and shapes[0][0] > 1:
            where = innermost_user_frame(sys._getframe(1))
            self.broadcasts.append(LossCall("sub", plain(first), plain(second), {}, () if where is None else (where,)))

    def _record(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = dict(zip(signature(func).parameters, args, strict=False)) | kwargs
        tensors = (given.pop("input", None), given.pop("target", None))
        if all(isinstance(tensor, torch.Tensor) for tensor in tensors):
            where = innermost_user_frame(sys._getframe(1))
            self.calls.append(
                LossCall(
                    func.__name__, plain(tensors[0]), plain(tensors[1]), given, () if where is None else (where,),
                    self.origin(tensors[0]),
                )
            )  # fmt: skip


def _keep(marks: OrderedDict[int, tuple[Tensor, Origin]], tensor: Tensor, origin: Origin) -> None:
    # The tensor is held, so that its storage cannot be given to another one meanwhile.
    marks[_storage(tensor)] = (tensor.detach(), origin)
    if len(marks) > MAX_MARKS:
        marks.popitem(last=False)


def _storage(tensor: Tensor) -> int:
    try:
        return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):  # sparse and other tensors without a storage
        return -id(tensor)


def plain(tensor: Any) -> Tensor:
    """A detached copy on the CPU in contiguous layout."""
    with torch._C.DisableTorchFunction():
        copy: Tensor = tensor.detach().cpu().contiguous().clone()
    return copy
