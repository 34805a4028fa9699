"""Faults in the data of ``regression``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from zoo.cases import Case, faulty
from zoo.programs.regression import Pair, build, loaders, prepare, scale

Splits = tuple[Pair, Pair]


def raw_features(x: Tensor, y: Tensor) -> Splits:
    (_, train_y), (_, val_y) = prepare(x, y)
    return (x[:900], train_y), (x[900:], val_y)


def raw_target(x: Tensor, y: Tensor) -> Splits:
    """The target in cents: a mean of 144,000."""
    (train_x, _), (val_x, _) = prepare(x, y)
    return (train_x, y[:900] * 10000), (val_x, y[900:] * 10000)


def large_target(x: Tensor, y: Tensor) -> Splits:
    """A target of mean 1400, which no unit at the start comes near."""
    (train_x, _), (val_x, _) = prepare(x, y)
    return (train_x, y[:900] * 100), (val_x, y[900:] * 100)


def overflowing_ratio(x: Tensor, y: Tensor) -> Splits:
    """A ratio of two columns, of which the second is rounded to zero for some rows."""
    (train_x, train_y), val = prepare(x, y)
    train_x = train_x.clone()
    train_x[:, 7] = train_x[:, 7] / torch.floor(x[:900, 6] / 2)
    return (train_x, train_y), val


def constant_features(x: Tensor, y: Tensor) -> Splits:
    """Integer division of percents by 101."""
    shares = torch.div(x, 101, rounding_mode="floor")
    (_, train_y), (_, val_y) = prepare(x, y)
    return (shares[:900], train_y), (shares[900:], val_y)


def sorted_target(x: Tensor, y: Tensor) -> Splits:
    """Each is sorted by itself."""
    train, val = prepare(x, y)
    return (train[0], train[1].sort(dim=0).values), val


def shifted_target(x: Tensor, y: Tensor) -> Splits:
    """The target of the row before."""
    return prepare(x, y.roll(1, dims=0))


def all_then_sample(x: Tensor, y: Tensor) -> Splits:
    """Validation is the end of what training has seen."""
    x, y = scale(x[:900], x)[1], scale(y[:900], y)[1]
    return (x, y), (x[900:], y[900:])


def swapped_columns(x: Tensor, y: Tensor) -> Splits:
    """The columns of the validation file come in another order."""
    train, (val_x, val_y) = prepare(x, y)
    return train, (val_x[:, [3, 1, 2, 0, 5, 4, 6, 7]], val_y)


def validation_percent(x: Tensor, y: Tensor) -> Splits:
    """Validation stays in percent."""
    train, (_, val_y) = prepare(x, y)
    return train, (x[900:], val_y)


def in_doubles(x: Tensor, y: Tensor) -> Splits:
    return prepare(x.double(), y.double())


def flat_target(x: Tensor, y: Tensor) -> Splits:
    """A column of shape (N,) against outputs of shape (N, 1)."""
    (train_x, train_y), (val_x, val_y) = prepare(x, y)
    return (train_x, train_y.squeeze(1)), (val_x, val_y.squeeze(1))


def twenty_rows(x: Tensor, y: Tensor) -> Splits:
    train, val = prepare(x, y)
    return (train[0][:30], train[1][:30]), val


def leaked(x: Tensor, y: Tensor) -> Splits:
    """A column that is derived from the target."""
    x = x.clone()
    x[:, 7] = 3 * y[:, 0] + 1
    return prepare(x, y)


class Stream(IterableDataset[Pair]):
    """Reads a file from start to end, in every worker."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.rows = list(zip(x, y, strict=True))

    def __iter__(self) -> Iterator[Pair]:
        return iter(self.rows)


def streamed(train: Pair, val: Pair) -> tuple[Any, Any]:
    return DataLoader(Stream(*train), 30, num_workers=2), loaders(train, val)[1]


class Recomputed(Dataset[Pair]):
    """Works out all distances anew for each row, to know where to cut outliers."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> Pair:
        widest = float(torch.cdist(self.x, self.x).max())
        return self.x[index].clamp(-widest, widest), self.y[index]


def recomputed(train: Pair, val: Pair) -> tuple[Any, Any]:
    return DataLoader(Recomputed(*train), 30, shuffle=True), loaders(train, val)[1]


class Broken(Dataset[Pair]):
    """Parses lines of text, one of which has a word in it."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.lines = [",".join(f"{v:.4f}" for v in (*row, *target)) for row, target in zip(x, y, strict=True)]
        self.lines[412] = self.lines[412].replace(",", ",n/a,", 1)

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, index: int) -> Pair:
        values = torch.tensor([float(field) for field in self.lines[index].split(",")])
        return values[:8], values[8:]


def parsed(train: Pair, val: Pair) -> tuple[Any, Any]:
    return DataLoader(Broken(*train), 30, shuffle=True), loaders(train, val)[1]


def empty(train: Pair, val: Pair) -> tuple[Any, Any]:
    """An index filter that keeps no row."""
    keep = [i for i in range(len(train[0])) if i % 10 > 9]
    chosen = TensorDataset(train[0][keep], train[1][keep])
    return DataLoader(chosen, 30), loaders(train, val)[1]


def full_batch(train: Pair, val: Pair) -> tuple[Any, Any]:
    return DataLoader(TensorDataset(*train), len(train[0]), shuffle=True), loaders(train, val)[1]


class LastRow(Dataset[Pair]):
    """A closure over the loop variable: every item is that of the last row."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.readers = [lambda: (x[i], y[i]) for i in range(len(x))]  # noqa: B023

    def __len__(self) -> int:
        return len(self.readers)

    def __getitem__(self, index: int) -> Pair:
        return self.readers[index]()


def last_rows(train: Pair, val: Pair) -> tuple[Any, Any]:
    return DataLoader(LastRow(*train), 30, shuffle=True), loaders(train, val)[1]


def squeezed() -> nn.Module:
    """Outputs of shape (N,) against a target of shape (N, 1)."""
    return nn.Sequential(nn.Linear(8, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 1), nn.Flatten(0))


CASES: tuple[Case, ...] = (
    faulty(build, "inputs-not-normalised", data=raw_features),
    faulty(build, "unscaled-regression-target", variant="cents", data=raw_target),
    faulty(build, "unscaled-regression-target", variant="hundreds", data=large_target),
    faulty(build, "nonfinite-inputs", data=overflowing_ratio),
    faulty(build, "constant-inputs", data=constant_features),
    faulty(build, "labels-unrelated-to-inputs", variant="sorted", data=sorted_target),
    faulty(build, "labels-unrelated-to-inputs", variant="misaligned", data=shifted_target),
    faulty(build, "train-val-leakage", structural=True, data=all_then_sample),
    faulty(build, "train-val-preprocessing-mismatch", variant="columns", data=swapped_columns),
    faulty(build, "train-val-preprocessing-mismatch", variant="percent", data=validation_percent),
    faulty(build, "input-dtype-mismatch", data=in_doubles),
    faulty(build, "target-broadcast", variant="flat-target", data=flat_target),
    faulty(build, "target-broadcast", model=squeezed),
    faulty(build, "too-few-samples", data=twenty_rows, epochs=360),
    faulty(build, "target-leaked-into-input", structural=True, data=leaked),
    faulty(build, "iterable-dataset-not-sharded", structural=True, make_loaders=streamed),
    faulty(build, "slow-dataloader", structural=True, make_loaders=recomputed),
    faulty(build, "unreadable-sample", make_loaders=parsed),
    faulty(build, "empty-loader", make_loaders=empty),
    faulty(build, "batch-size-extreme", variant="full", make_loaders=full_batch),
    faulty(build, "repeated-samples", also=("constant-inputs", "constant-labels"), make_loaders=last_rows),
)
