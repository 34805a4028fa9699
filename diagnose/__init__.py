"""Rehearse a PyTorch training before the long run. Public: ``Pipeline``, ``check``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diagnose.pipeline import Pipeline as Pipeline

__version__ = "0.1.0"
__all__ = ["Pipeline", "__version__"]


def __getattr__(name: str) -> Any:  # lazily, so that `diagnose --help` does not import torch
    if name == "Pipeline":
        from diagnose.pipeline import Pipeline

        return Pipeline
    raise AttributeError(f"module 'diagnose' has no attribute {name!r}")
