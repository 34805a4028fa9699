"""Which axis attention and recurrent layers take for time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from diagnose.batches import understand
from diagnose.measure.attempt import first_samples
from diagnose.user_code import UserCodeError

if TYPE_CHECKING:
    from torch import Tensor


def layers_over_batch(model: nn.Module, forward: Callable[[Any], Tensor | None], raw: Any) -> tuple[str, ...]:
    """Paths of the layers without batch_first, which expect (L, N, D), whose first axis shrinks with the batch while
    the second stays. Leaves the model in train mode: in eval mode torch's encoder layers may bypass their parts."""
    layers = {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, (nn.RNNBase, nn.MultiheadAttention)) and not module.batch_first
    }
    size = understand(raw).size if layers else 0
    if size < 2:
        return ()
    sizes: dict[str, tuple[int, int]] = {}

    def hook(path: str) -> Callable[..., None]:
        def note(module: nn.Module, args: Any, kwargs: Any) -> None:
            given = args[0] if args else kwargs.get("query", kwargs.get("input"))
            if isinstance(given, torch.Tensor) and given.ndim == 3:
                sizes[path] = (given.shape[0], given.shape[1])

        return note

    handles = [module.register_forward_pre_hook(hook(path), with_kwargs=True) for path, module in layers.items()]
    model.train()
    try:
        forward(raw)
        whole = dict(sizes)
        sizes.clear()
        forward(first_samples(raw, size, size // 2))
    except UserCodeError:  # batches of this size only
        return ()
    finally:
        for handle in handles:
            handle.remove()
    return tuple(path for path, seen in whole.items() if seen[0] == size and sizes.get(path) == (size // 2, seen[1]))
