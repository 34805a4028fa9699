"""The random numbers of loader workers: does every worker, and every epoch, draw its own?

Asked of the generators themselves, before and after an item is read: numpy's, Python's and torch's global ones, and
those that the data set keeps as attributes. Two readings that differ would not tell: one generator may repeat while
another does not.
"""

from __future__ import annotations

import hashlib
import pickle
import random
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from diagnose.rng import seeded
from diagnose.user_code import user_code
from probes.records.data import WorkerDraws

WORKERS = 2  # two tell as much as eight
DEPTH = 4  # of data sets and transforms that hold one another

States = dict[str, tuple[str, str]]  # generator -> fingerprints before and after an item is read


class _Watched(Dataset[Any]):
    """One item of a data set, read while the generators are watched. Its attributes are those of the data set: the
    user's worker_init_fn finds it in get_worker_info(), and may seed what it keeps."""

    def __init__(self, dataset: Any, index: Any) -> None:
        self.__dict__["_inner"] = dataset
        self.__dict__["_index"] = index

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_inner"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.__dict__["_inner"], name, value)

    def __reduce__(self) -> Any:
        return _Watched, (self.__dict__["_inner"], self.__dict__["_index"])

    def __len__(self) -> int:
        return WORKERS

    def __getitem__(self, at: int) -> States:
        dataset = self.__dict__["_inner"]
        before = dict(_fingerprints(dataset))
        dataset[self.__dict__["_index"]]
        return {name: (before[name], after) for name, after in _fingerprints(dataset) if name in before}


def worker_draws(loader: Any, seed: int) -> WorkerDraws | None:
    """None where the loader has no two workers, or is none of torch's over a map-style data set."""
    dataset = getattr(loader, "dataset", None)
    workers = int(getattr(loader, "num_workers", 0) or 0)
    if type(loader) is not DataLoader or workers < WORKERS or isinstance(dataset, IterableDataset):
        return None
    index = next(iter(loader.sampler), None)
    if index is None:
        return None
    with seeded(seed), user_code("reading data"):
        again: DataLoader[Any] = DataLoader(
            _Watched(dataset, index),
            batch_size=None,
            num_workers=WORKERS,
            worker_init_fn=loader.worker_init_fn,
            multiprocessing_context=loader.multiprocessing_context,
        )
        (first, second), later = list(again), next(iter(again))
    used = [name for name, (before, after) in first.items() if before != after and name in second and name in later]
    return WorkerDraws(
        workers=workers,
        used=tuple(used),
        # One that is seeded when it is first used begins alike and ends apart: all read the same item.
        same_in_workers=tuple(name for name in used if first[name] == second[name]),
        same_in_epochs=tuple(name for name in used if first[name] == later[name]),
    )


def _fingerprints(dataset: Any) -> Iterator[tuple[str, str]]:
    yield "random", _digest(random.getstate())
    yield "torch", hashlib.blake2b(torch.get_rng_state().numpy().tobytes(), digest_size=8).hexdigest()
    if "numpy" in sys.modules:
        yield "numpy.random", _digest(sys.modules["numpy"].random.get_state())
    yield from _own_generators(dataset, type(dataset).__name__, DEPTH)


def _own_generators(holder: Any, path: str, depth: int) -> Iterator[tuple[str, str]]:
    """The generators that an object keeps, and those of what it holds."""
    for name, value in list(getattr(holder, "__dict__", {}).items()):
        kind = type(value)
        if isinstance(value, torch.Generator):
            yield f"{path}.{name}", hashlib.blake2b(value.get_state().numpy().tobytes(), digest_size=8).hexdigest()
        elif isinstance(value, random.Random):
            yield f"{path}.{name}", _digest(value.getstate())
        elif kind.__module__.startswith("numpy.random"):
            yield f"{path}.{name}", _digest(getattr(value, "bit_generator", value))
        elif depth and hasattr(value, "__dict__") and not isinstance(value, (torch.Tensor, type)):
            yield from _own_generators(value, f"{path}.{name}", depth - 1)


def _digest(state: Any) -> str:
    return hashlib.blake2b(pickle.dumps(state), digest_size=8).hexdigest()
