"""Hears with which arguments the program calls its models, which torch's global hooks do not tell.

Only the outermost call is heard, and only while it is listened for: inside, modules run as ever.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

_MODULE: Any = nn.Module


class CallListener:
    """``begins(module, args, kwargs)`` before, ``ends(output)`` after each call with gradients on, until ``close``."""

    def __init__(self, begins: Callable[[nn.Module, Any, Any], None], ends: Callable[[Any], None]) -> None:
        self._begins, self._ends = begins, ends
        self._original: Any = None
        self._open = False

    def open(self) -> None:
        self._open = True
        if self._original is None:
            self._put()

    def close(self) -> None:
        self._open = False
        self._take_out()

    def _put(self) -> None:
        original = self._original = _MODULE._call_impl
        listener = self

        def _call_impl(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if not torch.is_grad_enabled():
                return original(module, *args, **kwargs)
            listener._take_out()
            listener._begins(module, args, kwargs)
            output = None
            try:
                output = original(module, *args, **kwargs)
            finally:
                listener._ends(output)
                if listener._open:
                    listener._put()
            return output

        _MODULE._call_impl = _call_impl

    def _take_out(self) -> None:
        if self._original is not None:
            _MODULE._call_impl = self._original
            self._original = None
