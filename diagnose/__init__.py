"""Rehearse a PyTorch training before the long run. Public: ``Pipeline``, ``check``, ``watching``."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diagnose.checking import check as check
    from diagnose.pipeline import Pipeline as Pipeline
    from diagnose.watch.library import watching as watching

__version__ = "0.1.0"
__all__ = ["Pipeline", "__version__", "check", "watching"]

_PLACES = {"Pipeline": "diagnose.pipeline", "check": "diagnose.checking", "watching": "diagnose.watch.library"}


def __getattr__(name: str) -> Any:  # lazily, so that `diagnose --help` does not import torch
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'diagnose' has no attribute {name!r}")
