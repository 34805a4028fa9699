"""A model and its optimizer as they were at one moment of the user's program, kept without holding memory.

The objects are copied around tensors that hold nothing; the values of the tensors wait in a file.
"""

from __future__ import annotations

import copy
import tempfile
import weakref
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

MOST_OBJECTS = 100_000  # that hang on a model besides its registered tensors
MOST_BYTES = 64 * 2**20  # of tensors and arrays among them
MOST_WEIGHTS = 4 * 2**30  # bytes of registered tensors


class CannotCopy(Exception):
    """The argument says why, in the user's terms."""


class Snapshot:
    """``restore()`` gives (model, optimizer) anew each time. Raises CannotCopy where the model cannot be copied."""

    def __init__(self, model: nn.Module, folder: Path | None = None) -> None:
        tensors = list({id(t): t for t in (*model.parameters(), *model.buffers())}.values())
        if sum(t.nbytes for t in tensors) > MOST_WEIGHTS:
            raise CannotCopy(f"the model is larger than {MOST_WEIGHTS / 2**30:.0f} GB")
        self._hollow = [_hollow(t) for t in tensors]
        self._memo = _Memo()
        self._memo.update(zip(map(id, tensors), self._hollow, strict=True))
        self.model = _copied(model, self._memo)
        self.optimizer: Any = None
        self.device = tensors[0].device if tensors else torch.device("cpu")
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # closed with the snapshot
        weakref.finalize(self, self._file.close)
        torch.save([t.detach() for t in tensors], self._file)

    def add(self, optimizer: Optimizer) -> None:
        """Its settings, without what it has learned of the gradients so far."""
        self._memo[id(optimizer.state)] = defaultdict(dict)
        self.optimizer = _copied(optimizer, self._memo)

    def seal(self) -> None:
        """No more is to be added: the originals are let go."""
        self._memo = _Memo()

    def restore(self) -> tuple[nn.Module, Any]:
        self._file.seek(0)
        values = torch.load(self._file, map_location=self.device, weights_only=True)
        memo: dict[int, Any] = {
            id(hollow): nn.Parameter(value, hollow.requires_grad) if isinstance(hollow, nn.Parameter) else value
            for hollow, value in zip(self._hollow, values, strict=True)
        }
        return copy.deepcopy((self.model, self.optimizer), memo)


class _Memo(dict[int, Any]):
    """Of ``copy.deepcopy``: stops a copy that reaches data sets, or half of the program, through an attribute."""

    bytes = 0

    def __setitem__(self, key: int, value: Any) -> None:
        super().__setitem__(key, value)
        size = getattr(value, "nbytes", 0)
        self.bytes += size if isinstance(size, int) else 0
        if self.bytes > MOST_BYTES or len(self) > MOST_OBJECTS:
            raise CannotCopy("much more than its weights hangs on the model")


def _hollow(tensor: Tensor) -> Tensor:
    if type(tensor) not in (Tensor, nn.Parameter):
        raise CannotCopy(f"the model holds a {type(tensor).__name__}")
    empty = torch.empty_like(tensor, device="meta")
    return nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty


def _copied(original: Any, memo: _Memo) -> Any:
    try:
        return copy.deepcopy(original, memo)
    except CannotCopy:
        raise
    except Exception as error:  # of the user's classes: anything may refuse to be copied
        raise CannotCopy(f"a {type(original).__name__} cannot be copied ({type(error).__name__}: {error})") from error
