"""The samples that the trials of an experiment share: a fixed part of the user's data, and fixed samples to look at."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, SequentialSampler, Subset

from diagnose.batches import input_tensors, understand
from diagnose.rng import loader_untouched, preserved, seed_all, seeded
from diagnose.user_code import user_code
from probes.api import Skip

if TYPE_CHECKING:
    from diagnose.pipeline import Pipeline

LOOK_SAMPLES = 512  # samples per look and split: an accuracy of 0.5 % is then told from 2 %
MIN_BATCHES = 16  # a share of a small data set is rounded up to this many batches
CACHE_BYTES = 600_000_000
SAME_ITEMS = 3  # items fetched twice to see whether the data set draws random numbers


class Remembered(Dataset[Any]):
    """A map-style data set whose items are read once. Only for data sets that give the same item every time."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self._items: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Any:
        if index not in self._items:
            with user_code("reading data"):
                self._items[index] = self._dataset[index]
        return self._items[index]


class Material:
    """Training batches of a part of the data, in an order that depends on the seed alone, and the look samples.

    A map-style data set behind a plain loader is cut at random; of anything else the first batches are kept.
    ``samples`` is how many training samples the part has.
    """

    def __init__(
        self, pipeline: Pipeline, fraction: float, *, exact: bool = False, batch_size: int | None = None
    ) -> None:
        """``batch_size`` other than the loader's. Raises Skip where the data cannot be batched anew."""
        self._loader = pipeline.train
        self.fraction = fraction
        self._batch_size = batch_size
        with seeded(0), loader_untouched(self._loader):
            self._part = self._subset(exact)
            if batch_size is not None and self._part is None:
                raise Skip("the batches are not those of a plain DataLoader, so they cannot be made larger or smaller")
            # Never by the clock: workers draw other random numbers, and a trial must come out the same again.
            self._in_workers = self._part is not None and not isinstance(self._part, Remembered)
            self._fixed = None if self._part is not None else self._first_batches(exact)
            self.look_train = self._look(pipeline.train, self._part)
            self.look_val = [] if pipeline.val is None else self._look(pipeline.val, None)

    def in_memory(self) -> bool:
        """Reads what is left to read; whether trials need nothing else of the user's data set."""
        if isinstance(self._part, Remembered):
            for index in range(len(self._part)):
                self._part[index]
        return self._fixed is not None or isinstance(self._part, Remembered)

    @property
    def samples(self) -> int:
        if self._part is not None:
            return len(self._part)
        return sum(understand(raw).size for raw in self._fixed or ())

    @property
    def steps_per_epoch(self) -> int:
        if self._part is None:
            return max(1, len(self._fixed or ()))
        size = self._size()
        return max(1, len(self._part) // size if self._drops() else math.ceil(len(self._part) / size))

    def _plain_loader(self) -> DataLoader[Any]:
        assert isinstance(self._loader, DataLoader), "a part is only taken from behind a DataLoader"
        return self._loader

    def _drops(self) -> bool:
        loader = self._plain_loader()
        return loader.drop_last and self.samples >= self._size()

    def _size(self) -> int:
        return self._batch_size or self._plain_loader().batch_size or 1

    def _subset(self, exact: bool) -> Subset[Any] | Remembered | None:
        """A random part of a map-style data set behind a plain loader, else None."""
        loader = self._loader
        if not is_plain(loader):
            return None
        total = len(loader.dataset)  # type: ignore[arg-type]
        keep = math.ceil(total * self.fraction)
        if not exact:
            keep = max(keep, min(total, MIN_BATCHES * (loader.batch_size or 1)))
        chosen = torch.randperm(total)[:keep]
        indices = chosen.sort().values.tolist()
        part = Subset(loader.dataset, indices)
        return Remembered(part) if _repeats(part) else part

    def _first_batches(self, exact: bool) -> list[Any]:
        try:
            total: int | None = len(self._loader)  # type: ignore[arg-type]
        except TypeError:
            total = None
        keep = MIN_BATCHES * 4 if total is None else math.ceil(total * self.fraction)
        if not exact:
            keep = max(keep, MIN_BATCHES)
        kept: list[Any] = []
        size = 0
        with user_code("reading data"):
            for raw in islice(iter(self._loader), keep):
                kept.append(raw)
                size += sum(x.numel() * x.element_size() for x in input_tensors(understand(raw)))
                if size > CACHE_BYTES and len(kept) >= MIN_BATCHES:
                    break
        return kept

    def _look(self, loader: Any, part: Subset[Any] | Remembered | None) -> list[Any]:
        """Up to LOOK_SAMPLES samples, collated as the loader does: random ones where the data set allows."""
        plain = isinstance(loader, DataLoader) and loader.batch_size is not None
        if part is None and plain and not isinstance(loader.dataset, IterableDataset):
            total = len(loader.dataset)
            part = Subset(loader.dataset, torch.randperm(total)[:LOOK_SAMPLES].sort().values.tolist())
        elif part is not None:
            part = Subset(part, torch.randperm(len(part))[:LOOK_SAMPLES].sort().values.tolist())
        if part is not None:
            loader = DataLoader(part, batch_size=loader.batch_size, collate_fn=loader.collate_fn)
        raws: list[Any] = []
        seen = 0
        with user_code("reading data"):
            for raw in loader:
                raws.append(raw)
                seen += understand(raw).size
                if seen >= LOOK_SAMPLES:
                    break
        return raws

    def batches(self, seed: int) -> Iterator[Any]:
        """Endless training batches; the order depends on ``seed`` alone, not on the global generators."""
        epoch = 0
        while True:
            generator = torch.Generator().manual_seed(seed * 100_003 + epoch)
            if self._part is None:
                fixed = self._fixed or []
                yield from (fixed[i] for i in torch.randperm(len(fixed), generator=generator).tolist())
            else:
                yield from self._epoch(generator)
            epoch += 1

    def _epoch(self, generator: torch.Generator) -> Iterator[Any]:
        user = self._plain_loader()
        assert self._part is not None
        loader = DataLoader(
            self._part,
            batch_size=self._size(),
            shuffle=isinstance(user.sampler, RandomSampler),
            collate_fn=user.collate_fn,
            drop_last=self._drops(),
            num_workers=user.num_workers if self._in_workers else 0,
            worker_init_fn=user.worker_init_fn,
            multiprocessing_context=user.multiprocessing_context if self._in_workers else None,
            generator=generator,
        )
        with user_code("reading data"):
            yield from loader


def is_plain(loader: Any) -> TypeGuard[DataLoader[Any]]:
    """Whether its batches are drawn by index, in order or at random, so that others can be drawn in the same way."""
    if not isinstance(loader, DataLoader) or not isinstance(loader.sampler, (RandomSampler, SequentialSampler)):
        return False
    return loader.batch_size is not None and type(loader.batch_sampler) is torch.utils.data.BatchSampler


def _repeats(dataset: Any) -> bool:
    """Whether the data set gives the same item twice (no random augmentation) and fits in memory."""
    total = len(dataset)
    if not total:
        return False
    size = 0
    with user_code("reading data"), preserved():
        for index in {0, total // 2, total - 1, *range(min(SAME_ITEMS, total))}:
            seed_all(1)
            first = dataset[index]
            seed_all(2)
            if not same(first, dataset[index]):
                return False
            size = max(size, _bytes(first))
    return size * total <= CACHE_BYTES


def same(a: Any, b: Any) -> bool:
    """Equal in content, tensors and arrays included."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.shape == b.shape and bool(torch.equal(a, b))
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    equal = a == b
    return bool(equal.all()) if hasattr(equal, "all") else bool(equal)


def _bytes(item: Any) -> int:
    if isinstance(item, torch.Tensor):
        return item.numel() * item.element_size()
    if isinstance(item, dict):
        return sum(_bytes(value) for value in item.values())
    if isinstance(item, (list, tuple)):
        return sum(_bytes(value) for value in item)
    return int(getattr(item, "nbytes", 64))
