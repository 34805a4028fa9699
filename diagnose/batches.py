"""What is in a batch: which of its parts the model takes, and which one is the target."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from diagnose.errors import UsageError

TARGET_KEYS = ("labels", "label", "targets", "target", "y")
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_Read = tuple[tuple[Any, ...], dict[str, Any], Any]  # inputs, kwargs, target


@dataclass(frozen=True)
class Batch:
    """A batch, understood: the model is called as ``model(*inputs, **kwargs)``.

    ``target``: tensor, nested containers of tensors, or None. ``size``: samples in the batch. ``raw``: as the loader
    yielded it.
    """

    inputs: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    target: Any = None
    size: int = 0
    raw: Any = None


def understand(raw: Any, *, model_signature: inspect.Signature | None = None) -> Batch:
    """Read ``(x, y)``, ``(x1, ..., y)``, ``((x1, x2), y)``, ``({...}, y)``, dicts, lists of samples, or one tensor.

    ``model_signature`` is that of ``model.forward`` (bound); with it, what the model does not take is left out.
    Raises UsageError where no tensor is found, or where a dict has nothing that the model takes.
    """
    if first_tensor(raw) is None:
        raise _not_understood(raw)
    inputs, kwargs, target = _read(raw, model_signature)
    return Batch(inputs=inputs, kwargs=kwargs, target=target, size=_size((*inputs, *kwargs.values())), raw=raw)


def _read(raw: Any, signature: inspect.Signature | None) -> _Read:
    if isinstance(raw, (Tensor, PackedSequence)):
        return (raw,), {}, None
    if isinstance(raw, Mapping):
        return _from_mapping(raw, signature)
    return _from_sequence(raw, signature)


def map_tensors(raw: Any, fn: Callable[[Tensor], Any]) -> Any:
    """``raw`` with every tensor replaced by ``fn(tensor)``; containers keep their type, other objects stay."""
    if isinstance(raw, Tensor):
        return fn(raw)
    if isinstance(raw, PackedSequence):  # its lengths are bookkeeping, not data, and must stay on the CPU
        return PackedSequence(fn(raw.data), raw.batch_sizes, raw.sorted_indices, raw.unsorted_indices)
    if isinstance(raw, Mapping):
        mapped = {key: map_tensors(value, fn) for key, value in raw.items()}
        return mapped if type(raw) is dict else _rebuilt(raw, mapped)
    if isinstance(raw, tuple) and hasattr(raw, "_fields"):
        return type(raw)(*(map_tensors(item, fn) for item in raw))
    if isinstance(raw, (tuple, list)):
        return type(raw)(map_tensors(item, fn) for item in raw)
    return raw


def to_device(raw: Any, device: torch.device | str) -> Any:
    """``raw`` with everything that can be moved on ``device``."""
    if isinstance(raw, PackedSequence):
        return raw.to(device)  # type: ignore[arg-type]
    if isinstance(raw, (Mapping, tuple, list)):
        if isinstance(raw, Mapping):
            moved = {key: to_device(value, device) for key, value in raw.items()}
            return moved if type(raw) is dict else _rebuilt(raw, moved)
        items = (to_device(item, device) for item in raw)
        return type(raw)(*items) if hasattr(raw, "_fields") else type(raw)(items)
    return raw.to(device) if callable(getattr(raw, "to", None)) else raw


def first_tensor(obj: Any) -> Tensor | None:
    """The first tensor inside nested containers, depth first; None where there is none."""
    if isinstance(obj, Tensor):
        return obj
    if isinstance(obj, PackedSequence):
        return obj.data
    items = obj.values() if isinstance(obj, Mapping) else obj if isinstance(obj, (tuple, list)) else ()
    return next((tensor for item in items if (tensor := first_tensor(item)) is not None), None)


def input_tensors(batch: Batch) -> list[Tensor]:
    """Every tensor that the model may be given of each sample, on the CPU; without the target, which a dict holds too,
    and without plain numbers per sample (an index, say) where there is anything else."""
    found: list[Tensor] = []

    def keep(x: Tensor) -> Tensor:
        if x is not batch.target:
            found.append(x.detach().cpu())
        return x

    map_tensors((batch.inputs, batch.kwargs), keep)
    of_samples = [x for x in found if x.ndim and len(x) == batch.size and x.numel()]
    return [x for x in of_samples if x.ndim > 1] or of_samples


def concatenable(tensors: Sequence[Tensor]) -> bool:
    """Whether tensors of several batches agree in all but their first axis."""
    return len({tensor.shape[1:] for tensor in tensors}) == 1 and all(tensor.ndim for tensor in tensors)


def _rebuilt(original: Mapping[Any, Any], items: dict[Any, Any]) -> Any:
    try:
        return type(original)(items)  # type: ignore[call-arg]
    except TypeError:
        return items


def _from_mapping(raw: Mapping[str, Any], signature: inspect.Signature | None) -> _Read:
    target_key = next((key for key in TARGET_KEYS if key in raw), None)
    target = raw[target_key] if target_key else None
    kwargs = {key: value for key, value in raw.items() if _takes(signature, key)}
    if signature is not None and set(kwargs) <= {target_key}:  # the names are the dataset's own, not the model's
        others = [value for key, value in raw.items() if key != target_key and isinstance(value, Tensor)]
        if len(others) != 1:
            raise _not_understood(raw, f" The model takes {', '.join(signature.parameters) or 'nothing'}.")
        return (others[0],), {}, target
    return (), kwargs, target


def _from_sequence(raw: Sequence[Any], signature: inspect.Signature | None) -> _Read:
    if _is_list_of_samples(raw):
        columns = [list(column) for column in zip(*raw, strict=True)]
        return tuple(columns[:-1]), {}, columns[-1]
    if _is_ragged(raw):
        return (list(raw),), {}, None
    if len(raw) == 1:
        return _model_inputs(raw[0], None, signature)
    if len(raw) == 2:
        return _model_inputs(raw[0], raw[1], signature)
    taken = min(len(raw) - 1, _positional(signature))
    return tuple(raw[:taken]), {}, raw[taken]


def _model_inputs(first: Any, target: Any, signature: inspect.Signature | None) -> _Read:
    """The inputs of a pair ``(first, target)``."""
    if isinstance(first, Mapping):
        if signature is None or any(_takes(signature, key) for key in first):
            return (), {key: value for key, value in first.items() if _takes(signature, key)}, target
        return (first,), {}, target
    nested = isinstance(first, (tuple, list)) and not isinstance(first, PackedSequence)
    if nested and not _is_one_input(first, target) and len(first) <= _positional(signature):
        return tuple(first), {}, target
    return (first,), {}, target


def _is_one_input(first: Sequence[Any], target: Any) -> bool:
    """Whether a list is one input of variable-length samples, and not several inputs of one batch."""
    sizes = {item.shape[0] for item in first if isinstance(item, Tensor) and item.ndim}
    samples = _length(target)
    if samples is not None and sizes == {samples} and isinstance(target, Tensor):
        return False
    return samples == len(first) or _is_ragged(first)


def _is_ragged(raw: Sequence[Any]) -> bool:
    tensors = [item for item in raw if isinstance(item, Tensor) and item.ndim]
    if len(tensors) != len(raw) or len(raw) < 2:
        return False
    alike = len({(tensor.ndim, tensor.dtype) for tensor in tensors}) == 1
    return alike and len({tensor.shape[0] for tensor in tensors}) > 1


def _is_list_of_samples(raw: Sequence[Any]) -> bool:
    """``[(x, y), (x, y), ...]``, as ``collate_fn=list`` gives it."""
    if not isinstance(raw, list) or not all(isinstance(item, tuple) for item in raw):
        return False
    return len({len(item) for item in raw}) == 1 and len(raw[0]) >= 2 and isinstance(raw[0][0], Tensor)


def _takes(signature: inspect.Signature | None, key: object) -> bool:
    if signature is None or key in signature.parameters:
        return True
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values())


def _positional(signature: inspect.Signature | None) -> int:
    """How many positional arguments fit at most."""
    if signature is None or any(p.kind is p.VAR_POSITIONAL for p in signature.parameters.values()):
        return 1_000
    return max(1, sum(p.kind in _POSITIONAL for p in signature.parameters.values()))


def _length(value: Any) -> int | None:
    if isinstance(value, Tensor):
        return value.shape[0] if value.ndim else None
    return len(value) if isinstance(value, (tuple, list)) else None


def _size(values: Sequence[Any]) -> int:
    """Samples in the batch, read from the first value that has a length."""
    for value in values:
        if isinstance(value, PackedSequence):
            return int(value.batch_sizes[0])
        if isinstance(value, Mapping):
            return _size(tuple(value.values()))
        if (length := _length(value)) is not None:
            return length
    return 1


def _not_understood(raw: Any, why: str = "") -> UsageError:
    return UsageError(
        f"batch not understood: got {_shape_of(raw)}, expected (x, y), (x1, x2, ..., y), a dict with labels, or a "
        f"tensor.{why} Change the loader's collate_fn, or define compute_loss(model, batch) beside the model."
    )


def _shape_of(raw: Any, depth: int = 2) -> str:
    if isinstance(raw, Tensor):
        return f"tensor{tuple(raw.shape)}"
    if depth and isinstance(raw, Mapping):
        return "{" + ", ".join(f"{key}: {_shape_of(value, depth - 1)}" for key, value in list(raw.items())[:6]) + "}"
    if depth and isinstance(raw, (tuple, list)):
        more = ", ..." if len(raw) > 4 else ""
        return f"{type(raw).__name__}({', '.join(_shape_of(item, depth - 1) for item in raw[:4])}{more})"
    return type(raw).__name__
