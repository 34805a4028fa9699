"""What a loader function returned, and what its loaders say about themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch.utils.data import Dataset

from diagnose.errors import UsageError
from diagnose.near_miss import did_you_mean
from diagnose.pipeline import loader_problem

_KEYS = ("train", "val", "test", "num_classes", "class_names")
_ALSO = {"valid": "val", "validation": "val"}
_EXPECTED = "(train, val), (train, val, num_classes), or a dict with train, val, test, num_classes, class_names"


@dataclass(frozen=True)
class Loaders:
    train: Iterable[Any]
    val: Iterable[Any] | None = None
    test: Iterable[Any] | None = None
    num_classes: int | None = None
    class_names: Sequence[str] | None = None


def read_loaders(returned: Any, label: str) -> Loaders:
    """The loaders in what ``label`` returned; classes that are not told come from the dataset's ``classes``.

    Raises UsageError where it is nothing of ``_EXPECTED``, or a loader cannot be read again and again.
    """
    parts = _parts(returned, label)
    problems = [
        problem
        for name in ("train", "val", "test")
        if (name == "train" or parts.get(name) is not None)
        and (problem := _problem(f"{label}: the {name} loader", parts.get(name)))
    ]
    if problems:
        raise UsageError(*problems)
    names = parts.get("class_names") or class_names(parts["train"])
    count = parts.get("num_classes")
    if count is None:
        count = len(names) if names else class_count(parts["train"])
    return Loaders(parts["train"], parts.get("val"), parts.get("test"), count, names)


def _parts(returned: Any, label: str) -> dict[str, Any]:
    if isinstance(returned, Mapping):
        return _named_parts(returned, label)
    if isinstance(returned, (tuple, list)) and 2 <= len(returned) <= 4:
        *loaders, last = returned
        if _is_count(last):
            return {**dict(zip(("train", "val", "test"), loaders, strict=False)), "num_classes": int(last)}
        if len(returned) <= 3:
            return dict(zip(("train", "val", "test"), returned, strict=False))
    elif hasattr(returned, "__iter__") and not isinstance(returned, (tuple, list, str, Dataset)):
        return {"train": returned}
    got = f"a {type(returned).__name__}" if returned is not None else "None"
    if isinstance(returned, (tuple, list)):
        got += f" of {len(returned)} ({', '.join(type(item).__name__ for item in returned[:5])})"
    raise UsageError(f"{label} returned {got}, expected {_EXPECTED}.")


def _named_parts(returned: Mapping[str, Any], label: str) -> dict[str, Any]:
    parts = {_ALSO.get(key, key): value for key, value in returned.items()}
    unknown = [str(key) for key in parts if key not in _KEYS]
    if unknown or "train" not in parts:
        got = ", ".join(map(str, returned)) or "no keys"
        near = "".join(did_you_mean(key, _KEYS) for key in unknown)
        raise UsageError(f"{label} returned a dict with {got}, expected the keys {', '.join(_KEYS)}.{near}")
    return parts


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _problem(name: str, loader: Any) -> str:
    if isinstance(loader, Dataset):  # every dataset with __getitem__ can be iterated over: sample by sample
        kind = type(loader).__name__
        return f"{name} is the dataset {kind} itself; expected batches: wrap it in torch.utils.data.DataLoader."
    return loader_problem(name, loader)


def class_names(loader: Any) -> Sequence[str] | None:
    """``classes`` of the dataset behind ``loader``, through Subset and ConcatDataset; None where there is none."""
    for dataset in _datasets(loader):
        classes = getattr(dataset, "classes", None)
        if isinstance(classes, (list, tuple)) and classes:
            return [str(name) for name in classes]
    return None


def class_count(loader: Any) -> int | None:
    for dataset in _datasets(loader):
        for name in ("num_classes", "n_classes"):
            count = getattr(dataset, name, None)
            if isinstance(count, int) and not isinstance(count, bool):
                return count
    return None


def _datasets(loader: Any) -> list[Any]:
    """The dataset behind ``loader``, and those that it wraps, outermost first."""
    found: list[Any] = []
    current = getattr(loader, "dataset", None)
    while current is not None and len(found) < 8:
        found.append(current)
        inner = getattr(current, "datasets", None)
        current = inner[0] if isinstance(inner, (list, tuple)) and inner else getattr(current, "dataset", None)
    return found
