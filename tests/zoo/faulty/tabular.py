"""Faults in the data of ``tabular``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from zoo.cases import Case, faulty
from zoo.programs.tabular import TRAIN, Churn, Columns, build, loaders, prepare, standardised

Splits = tuple[Columns, Columns]


def missing_values(numbers: Tensor, plan: Tensor, left: Tensor) -> Splits:
    """A ratio of columns of which the divisor is missing here and there."""
    train, val = prepare(numbers, plan, left)
    rows = train[0].clone()
    rows[::37, 5] = float("nan")
    return (rows, train[1], train[2]), val


def raw_columns(numbers: Tensor, plan: Tensor, left: Tensor) -> Splits:
    """Incomes in the tens of thousands beside shares below one."""
    return (numbers[:TRAIN], plan[:TRAIN], left[:TRAIN]), (numbers[TRAIN:], plan[TRAIN:], left[TRAIN:])


def validation_raw(numbers: Tensor, plan: Tensor, left: Tensor) -> Splits:
    train, _ = prepare(numbers, plan, left)
    return train, (numbers[TRAIN:], plan[TRAIN:], left[TRAIN:])


def statistics_swapped(numbers: Tensor, plan: Tensor, left: Tensor) -> Splits:
    """The mean where the deviation belongs, and the other way round."""
    mean, std = numbers[:TRAIN].mean(0), numbers[:TRAIN].std(0)
    numbers = (numbers - std) / mean
    return (numbers[:TRAIN], plan[:TRAIN], left[:TRAIN]), (numbers[TRAIN:], plan[TRAIN:], left[TRAIN:])


def with_target_column(numbers: Tensor, plan: Tensor, left: Tensor) -> Splits:
    """The score is a field that is written when the customer leaves."""
    numbers = numbers.clone()
    numbers[:, 7] = 600 + 100 * left + torch.arange(len(left)) % 7
    return prepare(numbers, plan, left)


def sampled_from_all(numbers: Tensor, plan: Tensor, left: Tensor) -> Splits:
    """Validation is a sample of the whole table, training rows included."""
    rows = torch.arange(0, len(left), 4)
    scaled, _ = standardised(numbers, numbers)
    return (scaled[:TRAIN], plan[:TRAIN], left[:TRAIN]), (scaled[rows], plan[rows], left[rows])


def joined_off_by_one(numbers: Tensor, plan: Tensor, left: Tensor) -> Splits:
    """The labels are joined by position after a row was dropped from the features."""
    return prepare(numbers, plan, left.roll(1))


def flipped_labels(numbers: Tensor, plan: Tensor, left: Tensor) -> Splits:
    train, val = prepare(numbers, plan, left)
    wrong = torch.rand(TRAIN, generator=torch.Generator().manual_seed(3)) < 0.35
    return (train[0], train[1], torch.where(wrong, 1 - train[2], train[2])), val


def few_leavers(numbers: Tensor, plan: Tensor, left: Tensor) -> Splits:
    """Of those who left, one in thirty is in the training export."""
    train, val = prepare(numbers, plan, left)
    gone = torch.nonzero(train[2] == 1).flatten()[::30]
    keep = torch.cat([torch.nonzero(train[2] == 0).flatten(), gone])
    return (train[0][keep], train[1][keep], train[2][keep]), val


def never_left(numbers: Tensor, plan: Tensor, left: Tensor) -> Splits:
    """Compares with a text that never occurs."""
    status = ["left" if value else "stays" for value in left.tolist()]
    return prepare(numbers, plan, torch.tensor([float(one == "Left") for one in status]))


def ones_and_twos(numbers: Tensor, plan: Tensor, left: Tensor) -> Splits:
    """Classes 1 and 2 of an export, into a binary cross-entropy."""
    return prepare(numbers, plan, left + 1)


def whole_numbers(numbers: Tensor, plan: Tensor, left: Tensor) -> Splits:
    return prepare(numbers, plan, left.long())


def doubles(numbers: Tensor, plan: Tensor, left: Tensor) -> Splits:
    """Columns as they come from a data frame."""
    return prepare(numbers.double(), plan, left)


def forty_rows(numbers: Tensor, plan: Tensor, left: Tensor) -> Splits:
    train, val = prepare(numbers, plan, left)
    return (train[0][:40], train[1][:40], train[2][:40]), val


def repeated_export(numbers: Tensor, plan: Tensor, left: Tensor) -> Splits:
    """The nightly export was appended twice for most customers."""
    train, val = prepare(numbers, plan, left)
    rows = torch.arange(TRAIN) % 300
    return (train[0][rows], train[1][rows], train[2][rows]), val


def other_coding(numbers: Tensor, plan: Tensor, left: Tensor) -> Splits:
    """In the validation file 1 means that the customer stays."""
    train, val = prepare(numbers, plan, left)
    return train, (val[0], val[1], 1 - val[2])


def leavers_last(train: Columns, val: Columns) -> tuple[Any, Any]:
    order = torch.argsort(train[2], stable=True)
    return DataLoader(TensorDataset(*(column[order] for column in train)), batch_size=40), loaders(train, val)[1]


def one_by_one(train: Columns, val: Columns) -> tuple[Any, Any]:
    return DataLoader(TensorDataset(*train), batch_size=1, shuffle=True), loaders(train, val)[1]


class PlanIgnored(Churn):
    """Takes the plan and makes nothing of it."""

    def __init__(self) -> None:
        super().__init__()
        self.body[0] = nn.Linear(8, 48)

    def forward(self, numbers: Tensor, plan: Tensor) -> Any:
        return self.head(self.body(numbers)).squeeze(1)


class MaskedOut(Churn):
    """A mask for missing values that is the wrong way round, and so blanks the numbers."""

    def forward(self, numbers: Tensor, plan: Tensor) -> Any:
        present = torch.isnan(numbers).float()
        return super().forward(numbers * present, plan)


CASES: tuple[Case, ...] = (
    faulty(build, "nonfinite-inputs", data=missing_values),
    faulty(build, "features-on-wild-scales", also=("inputs-not-normalised",), data=raw_columns),
    faulty(build, "train-val-preprocessing-mismatch", data=validation_raw),
    faulty(build, "wrong-normalisation-statistics", data=statistics_swapped),
    faulty(build, "target-leaked-into-input", structural=True, data=with_target_column),
    faulty(build, "train-val-leakage", structural=True, data=sampled_from_all),
    faulty(build, "labels-unrelated-to-inputs", variant="misaligned", data=joined_off_by_one),
    faulty(build, "noisy-labels", data=flipped_labels),
    faulty(build, "class-imbalance", data=few_leavers),
    faulty(build, "constant-labels", structural=True, data=never_left),
    faulty(build, "target-outside-loss-domain", data=ones_and_twos),
    faulty(build, "label-dtype-mismatch", data=whole_numbers),
    faulty(build, "input-dtype-mismatch", data=doubles),
    faulty(build, "too-few-samples", data=forty_rows, epochs=360),
    faulty(build, "duplicate-samples", data=repeated_export, also=("too-few-samples",)),
    faulty(build, "label-map-differs-in-validation", data=other_coding),
    faulty(build, "unshuffled-training-data", make_loaders=leavers_last),
    faulty(build, "batch-size-extreme", structural=True, variant="one", make_loaders=one_by_one),
    faulty(build, "ignored-input", model=PlanIgnored, also=("unused-parameters",)),
    faulty(build, "ignored-input", variant="mask", model=MaskedOut),
)
