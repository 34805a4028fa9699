"""Which modules act otherwise in evaluation than in training, and in which mode they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd


def acts_by_mode(module: nn.Module) -> bool:
    """Dropout that drops, and normalisation with running statistics."""
    if isinstance(module, _DropoutNd):
        return module.p > 0
    if isinstance(module, _NormBase):
        return module.track_running_stats
    if isinstance(module, (nn.RNNBase, nn.MultiheadAttention)):
        return module.dropout > 0
    kind: Any = type(module)
    return _asks_for_mode(kind)


@cache
def _asks_for_mode(kind: Any) -> bool:
    """Whether the forward of a module that is not torch's own reads ``self.training``."""
    code = getattr(kind.forward, "__code__", None)
    return code is not None and not kind.__module__.startswith("torch.") and "training" in code.co_names


def in_mode(
    root: nn.Module, training: bool, counts: Callable[[nn.Module], bool] = lambda parent: True
) -> Sequence[str]:
    """Names of the modules below ``root`` that act by mode, if root and all of them are in the given mode; else none.

    ``counts`` is asked about the module that holds each of them: a frozen part may rest in eval mode.
    """
    if root.training is not training:
        return ()
    found = []
    for path, parent in root.named_modules():
        for name, child in parent.named_children():
            if acts_by_mode(child) and counts(parent):
                if child.training is not training:
                    return ()
                found.append(f"{path}.{name}" if path else name)
    if acts_by_mode(root):
        found.append(type(root).__name__)
    return tuple(found)
