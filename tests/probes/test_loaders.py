"""Loaders whose workers repeat one another, leak, or are waited for."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import pytest
import small_pipelines as small
import torch
from probing import judge
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, TensorDataset, get_worker_info

from diagnose.pipeline import Pipeline
from probes.results import Status

Build = Callable[[], Pipeline]
SAMPLES = 192
WORKERS = 2


def digits(start: int, end: int) -> tuple[Tensor, Tensor]:
    images, labels = small.digits_tensors()
    return images[start:end], labels[start:end]


# -- iterable data sets -----------------------------------------------------------------------------------------------


class Stream(IterableDataset[tuple[Tensor, int]]):
    def __init__(self, images: Tensor, labels: Tensor, shared_out: bool) -> None:
        self.images, self.labels, self.shared_out = images, labels, shared_out

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        info = get_worker_info() if self.shared_out else None
        indices = islice(range(len(self.images)), info.id if info else 0, None, info.num_workers if info else 1)
        for index in indices:
            yield self.images[index], int(self.labels[index])


def stream(shared_out: bool, workers: int = WORKERS, images: Any = lambda x: x) -> Pipeline:
    x, y = digits(0, SAMPLES)
    return small.digits_cnn(train=DataLoader(Stream(images(x), y, shared_out), batch_size=32, num_workers=workers))


def every_worker_yields_all() -> Pipeline:
    return stream(shared_out=False)


def workers_share_out() -> Pipeline:
    return stream(shared_out=True)


def one_process_yields_all() -> Pipeline:
    return stream(shared_out=False, workers=0)


def few_different_ones() -> Pipeline:
    """Samples that repeat by themselves."""
    return stream(shared_out=True, images=lambda x: x[torch.arange(len(x)) % 8])


# -- random numbers of workers ----------------------------------------------------------------------------------------


class Noisy(small.Images):
    """Augments with one generator or another."""

    def __init__(self, draw: Callable[[], float], n: int = SAMPLES) -> None:
        super().__init__(*digits(0, n))
        self.draw = draw

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = super().__getitem__(index)
        return image + 0.1 * self.draw(), label


class OwnGenerator(Noisy):
    def __init__(self) -> None:
        super().__init__(lambda: float(self.rng.standard_normal()))
        self.rng: Any = np.random.default_rng(0)


def seed_alike(worker: int) -> None:
    np.random.seed(0)


def seed_apart(worker: int) -> None:
    np.random.seed(torch.initial_seed() % 2**32)


def seed_own_apart(worker: int) -> None:
    info = get_worker_info()
    if info is not None:
        info.dataset.rng = np.random.default_rng(torch.initial_seed())  # type: ignore[attr-defined]


def augmented(dataset: Any, init: Any = None, workers: int = WORKERS) -> Pipeline:
    loader = DataLoader(dataset, batch_size=32, shuffle=True, num_workers=workers, worker_init_fn=init)
    return small.digits_cnn(train=loader)


def numpy_seeded_alike() -> Pipeline:
    return augmented(Noisy(lambda: float(np.random.randn())), seed_alike)


def numpy_seeded_apart() -> Pipeline:
    return augmented(Noisy(lambda: float(np.random.randn())), seed_apart)


def own_generator_copied() -> Pipeline:
    return augmented(OwnGenerator())


def own_generator_seeded_apart() -> Pipeline:
    return augmented(OwnGenerator(), seed_own_apart)


def own_generator_alone() -> Pipeline:
    return augmented(OwnGenerator(), workers=0)


def torch_draws() -> Pipeline:
    return augmented(Noisy(lambda: float(torch.randn(()))))


def python_draws() -> Pipeline:
    return augmented(Noisy(random.random))


def nothing_draws() -> Pipeline:
    return augmented(small.Images(*digits(0, SAMPLES)))


# -- leaks and duplicates ---------------------------------------------------------------------------------------------


def shifted_train(first_of_val: int) -> Pipeline:
    """Train is augmented, val is not; 400 images of train, and 200 of val from ``first_of_val`` on."""
    train = small.Images(*digits(0, 400), small.shifted)
    val = small.Images(*digits(first_of_val, first_of_val + 200))
    return small.digits_cnn(train=DataLoader(train, batch_size=32, shuffle=True), val=DataLoader(val, batch_size=64))


def val_within_augmented_train() -> Pipeline:
    return shifted_train(100)


def val_apart_from_augmented_train() -> Pipeline:
    return shifted_train(400)


def rows(repeated: bool, discrete: bool = False) -> Pipeline:
    """300 rows of five columns, or 150 of them twice."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(300, 5, generator=g)
    x = (x > 0).float() if discrete else x
    y = (x.sum(1) > 0).long()
    data = TensorDataset(x, y)
    train: Any = ConcatDataset([Subset(data, range(150))] * 2) if repeated else data
    model = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 2))
    return Pipeline(model, DataLoader(train, batch_size=25, shuffle=True), loss=nn.CrossEntropyLoss())


def rows_twice() -> Pipeline:
    return rows(repeated=True)


def rows_once() -> Pipeline:
    return rows(repeated=False)


def rows_of_few_values() -> Pipeline:
    return rows(repeated=False, discrete=True)


# -- waiting ----------------------------------------------------------------------------------------------------------


class Slow(small.Images):
    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        time.sleep(0.0015)
        return super().__getitem__(index)


class SlowModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = small.cnn()

    def forward(self, x: Tensor) -> Tensor:
        time.sleep(0.06)
        out: Tensor = self.net(x)
        return out


def slow_items() -> Pipeline:
    return small.digits_cnn(train=DataLoader(Slow(*digits(0, SAMPLES)), batch_size=32, shuffle=True))


def slow_items_for_a_slow_model() -> Pipeline:
    train = DataLoader(Slow(*digits(0, SAMPLES)), batch_size=32, shuffle=True)
    return small.digits_cnn(model=SlowModel, train=train)


def prompt_items() -> Pipeline:
    return small.digits_cnn(n=SAMPLES)


SHARDS, DRAWS = "iterable-dataset-not-sharded", "duplicate-worker-randomness"
LEAK, COPIES, WAIT = "train-val-leakage", "duplicate-samples", "slow-dataloader"
FAULTS: list[tuple[str, Build, tuple[Build, ...]]] = [
    (SHARDS, every_worker_yields_all, (workers_share_out, one_process_yields_all, few_different_ones, prompt_items)),
    (DRAWS, numpy_seeded_alike, (numpy_seeded_apart, torch_draws, python_draws, nothing_draws)),
    (DRAWS, own_generator_copied, (own_generator_alone, workers_share_out)),
    (LEAK, val_within_augmented_train, (val_apart_from_augmented_train, small.digits_augmented)),
    (COPIES, rows_twice, (rows_once, rows_of_few_values)),
    (WAIT, slow_items, (prompt_items, slow_items_for_a_slow_model)),
]
PAIRS = [(name, twin) for name, _, twins in FAULTS for twin in twins]


@pytest.mark.parametrize(("name", "faulty"), [(n, f) for n, f, _ in FAULTS], ids=lambda x: getattr(x, "__name__", x))
def test_finds_its_fault(name: str, faulty: Build) -> None:
    judged = judge(name, faulty)
    assert judged.names == [name], judged.result.reason
    assert judged.status is Status.FAIL


@pytest.mark.parametrize(("name", "healthy"), PAIRS, ids=lambda x: getattr(x, "__name__", x))
@pytest.mark.parametrize("seed", range(3))
def test_is_silent_on_the_twin(name: str, healthy: Build, seed: int) -> None:
    judged = judge(name, healthy, seed)
    assert judged.findings == (), judged.result
    assert judged.status in {Status.PASS, Status.SKIPPED}, judged.result


def test_how_often_each_sample_comes() -> None:
    values = judge(SHARDS, every_worker_yields_all).values
    assert (values["workers"], values["different"]) == (WORKERS, SAMPLES)
    assert values["times"] == pytest.approx(WORKERS)


def test_the_generator_is_named() -> None:
    assert judge(DRAWS, numpy_seeded_alike).values["generators"] == "numpy.random"
    assert judge(DRAWS, own_generator_copied).values == {"generators": "OwnGenerator.rng", "workers": WORKERS}


def test_the_fix_that_the_documentation_gives_is_silent() -> None:
    judged = judge(DRAWS, own_generator_seeded_apart)
    assert judged.findings == (), judged.result


def test_the_leak_is_counted() -> None:
    values = judge(LEAK, val_within_augmented_train).values
    assert (values["split"], values["overlap"], values["seen"]) == ("val", 200, 200)


def test_the_copies_are_counted() -> None:
    values = judge(COPIES, rows_twice).values
    assert (values["copies"], values["seen"]) == (150, 300)


def test_what_a_batch_takes_is_told() -> None:
    values = judge(WAIT, slow_items).values
    assert values["wait"] >= 32 * 0.0015
    assert values["share"] > 0.8


class Both(Dataset[tuple[Tensor, int]]):
    """Holds both splits; ``train`` chooses between them, and augments."""

    def __init__(self, train: bool) -> None:
        self.train = train
        self.first, self.second = digits(0, SAMPLES), digits(1000, 1000 + SAMPLES)

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        images, labels = self.first if self.train else self.second
        image = small.shifted(images[index]) if self.train else images[index]
        return image, int(labels[index])


@pytest.mark.parametrize("seed", range(3))
def test_a_flag_that_chooses_the_split_is_no_switch_of_the_augmentation(seed: int) -> None:
    def build() -> Pipeline:
        loaders = (DataLoader(Both(train), batch_size=32, shuffle=train) for train in (True, False))
        return small.digits_cnn(train=next(loaders), val=next(loaders))

    assert judge(LEAK, build, seed).findings == ()
