"""The random numbers that loader workers draw: does every worker, and every epoch, draw its own?"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from diagnose.batches import first_tensor
from diagnose.rng import seeded
from diagnose.user_code import user_code
from probes.records.data import WorkerDraws

WORKERS = 2  # two tell as much as eight
DRAWS = 4  # of each worker and epoch


class _SameItem(Dataset[Any]):
    """One item of a data set over and over, so that only random augmentation makes readings differ."""

    def __init__(self, dataset: Any, index: Any, length: int) -> None:
        self.dataset, self.index, self.length = dataset, index, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, at: int) -> Any:
        return self.dataset[self.index]


def worker_draws(loader: Any, seed: int) -> WorkerDraws | None:
    """Reads one item again and again in two workers, over two epochs. None where the loader has no two workers, or is
    none of torch's over a map-style data set."""
    dataset = getattr(loader, "dataset", None)
    workers = int(getattr(loader, "num_workers", 0) or 0)
    if type(loader) is not DataLoader or workers < WORKERS or isinstance(dataset, IterableDataset):
        return None
    index = next(iter(loader.sampler), None)
    if index is None:
        return None
    with seeded(seed), user_code("reading data"):
        again: DataLoader[Any] = DataLoader(
            _SameItem(dataset, index, WORKERS * DRAWS),
            batch_size=1,
            num_workers=WORKERS,
            collate_fn=loader.collate_fn,
            worker_init_fn=loader.worker_init_fn,
            multiprocessing_context=loader.multiprocessing_context,
        )
        epochs = [[first_tensor(raw) for raw in again] for _ in range(2)]
    if any(tensor is None for epoch in epochs for tensor in epoch):
        return None
    first, second = epochs
    by_worker = [first[worker::WORKERS] for worker in range(WORKERS)]  # batches are handed out in turn
    return WorkerDraws(
        workers=workers,
        draws=DRAWS,
        varies=any(not _same(a, by_worker[0][0]) for a in by_worker[0][1:]),
        same_in_workers=sum(_same(a, b) for a, b in zip(*by_worker, strict=True)),
        same_in_epochs=sum(_same(a, b) for a, b in zip(first, second, strict=True)),
    )


def _same(a: Any, b: Any) -> bool:
    return a.shape == b.shape and bool(torch.equal(a, b))
