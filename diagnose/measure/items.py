"""A split's data set item by item, past its loader's order: are items stable, and are they shared between splits?

Only for map-style data sets behind a ``DataLoader``; everything else gives None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice, pairwise
from typing import Any

import torch
from torch.utils.data import ConcatDataset, IterableDataset, Sampler, SequentialSampler, Subset

from diagnose.batches import first_tensor, understand
from diagnose.rng import seeded
from diagnose.user_code import user_code
from probes.records.data import Reread

ITEMS = 16  # spread evenly over the data set
TOLERANCE = 1e-5  # of an item's range: two readings that differ less are the same item
MAX_INDICES = 2_000_000
Key = tuple[Any, int]


def reread(loader: Any, split: str, seed: int) -> Reread | None:
    """Reads a few items twice, under different random states."""
    dataset, collate = getattr(loader, "dataset", None), getattr(loader, "collate_fn", None)
    size = _size(dataset)
    if dataset is None or collate is None or not size or isinstance(dataset, IterableDataset):
        return None
    indices = _indices(loader, size)
    if not indices:
        return None
    chosen = [indices[i * len(indices) // min(ITEMS, len(indices))] for i in range(min(ITEMS, len(indices)))]
    first, again = ([_read(dataset, collate, index, seed + turn) for index in chosen] for turn in (0, 1))
    pairs = [(a, b) for a, b in zip(first, again, strict=True) if a is not None and b is not None]
    if not pairs:
        return None
    inputs = [(a[0], b[0]) for a, b in pairs]
    changed = [not _same(a, b) for a, b in inputs]
    corrupted = sum(change and _restores(a, b) for change, (a, b) in zip(changed, pairs, strict=True))
    ordered = sorted((item[0] for item in first if item is not None), key=_order)
    distinct = 1 + sum(not _same(a, b) for a, b in pairwise(ordered))
    return Reread(split=split, items=len(pairs), changed=sum(changed), distinct=distinct, corrupted=corrupted)


_Item = tuple[torch.Tensor, torch.Tensor | None]  # the first input, the target


def _read(dataset: Any, collate: Any, index: Any, seed: int) -> _Item | None:
    with seeded(seed), user_code("reading data"):
        raw = collate([dataset[index]])
    tensor = first_tensor(raw)
    if tensor is None:
        return None
    batch = understand(raw)
    tensor = first_tensor((batch.inputs, batch.kwargs))
    target = batch.target.detach().cpu() if isinstance(batch.target, torch.Tensor) else None
    return None if tensor is None else (tensor.detach().cpu(), target)


def _restores(first: _Item, again: _Item) -> bool:
    """Whether the task is to restore the input: noise that was added to it, or tokens that were hidden in it."""
    (x, target), (_, later) = first, again
    if target is None or later is None or target.shape != x.shape:
        return False
    if x.is_floating_point():
        return target.is_floating_point() and _same(target, later)
    return not target.is_floating_point()


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if not a.is_floating_point():
        return bool(torch.equal(a, b))
    finite = torch.nan_to_num(a, 0.0, 0.0, 0.0)
    span = float(finite.max() - finite.min()) if a.numel() else 0.0
    return bool(torch.allclose(a, b, rtol=0, atol=TOLERANCE * span, equal_nan=True))


def _order(tensor: torch.Tensor) -> tuple[int, float]:
    return tensor.numel(), float(tensor.double().nansum())


def shared_items(train: Any, val: Any) -> tuple[int, int] | None:
    """(items of val that train reads too, items of val), by data set and index; None where that cannot be told."""
    first, second = _keys(train), _keys(val)
    if first is None or second is None:
        return None
    return len(first & second), len(second)


def _keys(loader: Any) -> set[Key] | None:
    dataset = getattr(loader, "dataset", None)
    size = _size(dataset)
    if dataset is None or size is None or size > MAX_INDICES or isinstance(dataset, IterableDataset):
        return None
    indices = _indices(loader, size)
    found: set[Key] = set()
    for index in indices or ():
        root, at = _resolve(dataset, index)
        if not isinstance(at, int):
            return None
        found.add((_identity(root), at))
    return found or None


def _resolve(dataset: Any, index: Any) -> tuple[Any, Any]:
    """The innermost data set and the index in it, through Subset and ConcatDataset."""
    while True:
        if type(dataset) is Subset:
            dataset, index = dataset.dataset, int(dataset.indices[index])
        elif type(dataset) is ConcatDataset:
            position = next(i for i, end in enumerate(dataset.cumulative_sizes) if index < end)
            index -= dataset.cumulative_sizes[position - 1] if position else 0
            dataset = dataset.datasets[position]
        else:
            return dataset, index


def _identity(dataset: Any) -> Any:
    """Two data sets over the same list of files, or the same tensor, are the same whatever their transforms."""
    files = getattr(dataset, "samples", None)
    if isinstance(files, list) and files and isinstance(files[0], tuple):
        return type(dataset).__name__, len(files), str(files[0]), str(files[-1])
    return id(dataset)


def _indices(loader: Any, size: int) -> Sequence[int] | None:
    """The indices that an epoch of a loader may draw, None for samplers that keep them to themselves."""
    kind = type(getattr(loader, "batch_sampler", None)).__name__
    sampler = getattr(loader, "sampler", None)
    if kind != "BatchSampler" or not isinstance(sampler, Sampler):
        return None
    if isinstance(sampler, torch.utils.data.SubsetRandomSampler):
        return [int(index) for index in sampler.indices]
    if isinstance(sampler, (SequentialSampler, torch.utils.data.RandomSampler, torch.utils.data.WeightedRandomSampler)):
        return range(size)
    return None


def sampler_facts(loader: Any) -> Mapping[str, Any]:
    """``shuffles``: whether the order is drawn at random, None where it does not tell. ``replacement``: whether a
    sample may come twice in an epoch. ``weighted``: drawn by weight. ``planned``: samples that an epoch draws."""
    if type(getattr(loader, "batch_sampler", None)).__name__ != "BatchSampler":
        return {"shuffles": None, "replacement": None, "weighted": False, "planned": None}
    sampler = loader.sampler
    weighted = isinstance(sampler, torch.utils.data.WeightedRandomSampler)
    shuffles = replacement = planned = None
    if isinstance(sampler, SequentialSampler):
        shuffles, replacement = False, False
    elif isinstance(sampler, (torch.utils.data.RandomSampler, torch.utils.data.SubsetRandomSampler)) or weighted:
        shuffles, replacement = True, bool(getattr(sampler, "replacement", False))
    try:
        planned = len(sampler)
    except (TypeError, NotImplementedError):
        planned = None
    return {"shuffles": shuffles, "replacement": replacement, "weighted": weighted, "planned": planned}


def root_facts(loader: Any) -> Mapping[str, Any]:
    """``dataset``: class and folder of the innermost data set; ``dataset_size``: its length; ``iterable`` and
    ``normalisations`` as in the record."""
    dataset = getattr(loader, "dataset", None)
    normalisations: list[Any] = []
    for _ in range(8):
        normalisations = [*_normalisations(dataset), *normalisations]
        inner = getattr(dataset, "dataset", None)
        if inner is None:
            break
        dataset = inner
    if dataset is None:
        return {}
    folder = getattr(dataset, "root", "")
    return {
        "dataset": f"{type(dataset).__name__} {folder}".strip(),
        "dataset_size": _size(dataset),
        "iterable": isinstance(dataset, IterableDataset),
        "normalisations": tuple(normalisations),
    }


def _normalisations(holder: Any) -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
    """(mean, std) of every Normalize of torchvision, in order, that a data set's transforms hold in plain sight."""
    transform = getattr(holder, "transform", None)
    waiting = [transform if transform is not None else getattr(holder, "transforms", None)]
    found = []
    while waiting:
        item = waiting.pop(0)
        if isinstance(item, (list, tuple, torch.nn.Sequential)):
            waiting = [*item, *waiting]
        elif type(item).__name__ == "Compose":
            waiting = [*getattr(item, "transforms", ()), *waiting]
        elif type(item).__name__ == "Normalize" and type(item).__module__.startswith("torchvision"):
            found.append((_floats(getattr(item, "mean", ())), _floats(getattr(item, "std", ()))))
    return found


def _floats(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in (values if hasattr(values, "__iter__") else [values]))


def _size(dataset: Any) -> int | None:
    try:
        return len(dataset)
    except (TypeError, NotImplementedError, AttributeError):
        return None


def in_order(loader: Any, seed: int, limit: int = 1_000) -> list[Any] | None:
    """The first items of a split's data set by index, each as a batch of one; None where they cannot be read so."""
    dataset, collate = getattr(loader, "dataset", None), getattr(loader, "collate_fn", None)
    size = _size(dataset)
    if dataset is None or collate is None or not size or isinstance(dataset, IterableDataset):
        return None
    with seeded(seed), user_code("reading data"):
        return [collate([dataset[index]]) for index in range(min(size, limit))]


def alone(loader: Any, seed: int, limit: int = 500) -> list[Any]:
    """The first items of an IterableDataset, read in this process."""
    with seeded(seed), user_code("reading data"):
        return list(islice(iter(loader.dataset), limit))
