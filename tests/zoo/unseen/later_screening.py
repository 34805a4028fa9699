"""A screening table: one patient in twenty is ill; one logit, BCE with pos_weight."""

from __future__ import annotations

import functools

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from diagnose import Pipeline
from zoo.cases import cases

ROWS, TRAIN = 4000, 3200
POSITIVE = torch.tensor([12.0])


@functools.lru_cache
def table():
    rng = np.random.default_rng(21)
    age = rng.normal(55, 14, ROWS)
    marker, pressure, weight = rng.lognormal(0, 0.6, ROWS), rng.normal(130, 18, ROWS), rng.normal(76, 13, ROWS)
    smoker, ward = rng.random(ROWS) < 0.3, rng.integers(0, 4, ROWS)
    risk = 0.06 * (age - 55) + 1.6 * np.log(marker) + 1.2 * smoker * (pressure > 135) - 0.02 * np.abs(weight - 76)
    risk = risk + rng.normal(0, 0.35, ROWS)
    ill = risk > np.quantile(risk, 0.94)
    x = np.stack([age, marker, pressure, weight, smoker, *(ward == w for w in range(4))], 1).astype(float)
    return x, ((x - x.mean(0)) / x.std(0)).astype(np.float32), ill.astype(np.float32)


class Net(nn.Module):
    def __init__(self, columns=9, keep=False, width=48):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(columns, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.out = nn.Linear(width, 1)
        self.keep = keep

    def forward(self, x):
        out = self.out(self.body(x))
        return out if self.keep else out.squeeze(1)


def auc(output, target):
    target = target.flatten() > 0
    if target.all() or not target.any():
        return float("nan")
    return float(roc_auc_score(target.numpy(), output.detach().flatten().numpy()))


def make(model=None, x=None, y=None, loss=None, train=None, val=None, intents=("imbalanced",), metrics=None, **loader):
    x = torch.as_tensor(table()[1] if x is None else x)
    y = torch.as_tensor(table()[2] if y is None else y)
    model = model or Net(x.shape[1])
    return Pipeline(
        model=model,
        train=DataLoader(
            train or TensorDataset(x[:TRAIN], y[:TRAIN]), **({"batch_size": 64, "shuffle": True} | loader)
        ),
        val=DataLoader(val or TensorDataset(x[TRAIN:], y[TRAIN:]), batch_size=200),
        loss=loss or nn.BCEWithLogitsLoss(pos_weight=POSITIVE),
        optimizer=torch.optim.Adam(model.parameters(), lr=2e-3),
        metrics=metrics or {"auc": auc},
        intents=intents,
        epochs=8,
    )


def build():
    return make()


# faults


def ill_and_minus_ill():
    return make(y=table()[2] * 2 - 1)


def one_column_and_flat_labels():
    return make(model=Net(keep=True))


def whole_numbers():
    return make(y=table()[2].astype(np.int64))


def logits_into_plain_bce():
    return make(loss=nn.BCELoss())


def cross_entropy_of_one_column():
    return make(model=Net(keep=True), y=table()[2].astype(np.int64), loss=nn.CrossEntropyLoss())


def patients_appended():
    """The ill came from another hospital, whose numbers begin where the first one's end."""
    _, z, y = table()
    rng = np.random.default_rng(3)
    number = np.where(y > 0, rng.integers(52000, 56000, ROWS), rng.integers(1000, 52000, ROWS)) / 56000
    return make(x=np.concatenate([z, number[:, None] * 3], 1).astype(np.float32))


def treatment_among_the_columns():
    """Only who was found ill gets the drug; a few of them refuse."""
    _, z, y = table()
    drug = y * (np.random.default_rng(4).random(ROWS) > 0.03)
    return make(x=np.concatenate([z, drug[:, None]], 1).astype(np.float32))


def ill_repeated_before_the_split():
    _, z, y = table()
    rng = np.random.default_rng(5)
    every = rng.permutation(np.concatenate([np.arange(ROWS), np.repeat(np.flatnonzero(y > 0), 6)]))
    x, y = torch.from_numpy(z[every]), torch.from_numpy(y[every])
    cut = int(0.8 * len(every))
    return make(train=TensorDataset(x[:cut], y[:cut]), val=TensorDataset(x[cut:], y[cut:]))


def missing_is_minus_a_million():
    z = table()[1].copy()
    rng = np.random.default_rng(6)
    for column in (1, 2, 3):
        z[rng.random(ROWS) < 0.05, column] = -1e6
    return make(x=z)


def division_by_an_empty_cell():
    x, z, _ = table()
    z = z.copy()
    with np.errstate(divide="ignore"):
        z[:, 3] = np.where(np.arange(ROWS) % 37 == 5, x[:, 3] / np.zeros(ROWS), z[:, 3])
    return make(x=z)


def penalty_in_the_way():
    model = Net()

    def loss(output, target):
        squares = torch.stack([p.pow(2).sum() for p in model.parameters()]).sum()
        return F.binary_cross_entropy_with_logits(output, target, pos_weight=POSITIVE) + squares

    return make(model=model, loss=loss)


def sigmoid_and_log_by_hand():
    class Sure(Net):
        def forward(self, x):
            return torch.sigmoid(super().forward(x * 40))

    def loss(output, target):
        return -(12 * target * torch.log(output) + (1 - target) * torch.log(1 - output)).mean()

    return make(model=Sure(), loss=loss)


def same_row_again():
    class Rows(TensorDataset):
        def __getitem__(self, i):
            return super().__getitem__(np.random.default_rng(0).integers(len(self)))

    x, y = torch.from_numpy(table()[1][:TRAIN]), torch.from_numpy(table()[2][:TRAIN])
    return make(train=Rows(x, y))


def sheet_without_the_ill():
    _, z, y = table()
    order = np.argsort(y, kind="stable")
    return make(train=TensorDataset(torch.from_numpy(z[order[:TRAIN]]), torch.from_numpy(y[order[:TRAIN]])))


# healthy


def focal_with_prior():
    model = Net()
    nn.init.constant_(model.out.bias, -2.75)

    def loss(output, target):
        each = F.binary_cross_entropy_with_logits(output, target, reduction="none")
        return ((1 - torch.exp(-each)) ** 2 * each * (0.25 + 0.5 * target)).mean() * 10

    return make(model=model, loss=loss)


def sampled_evenly():
    x, y = torch.from_numpy(table()[1][:TRAIN]), torch.from_numpy(table()[2][:TRAIN])
    share = torch.where(y > 0, 1 / y.sum(), 1 / (1 - y).sum())
    sampler = WeightedRandomSampler(share, TRAIN)
    return make(train=TensorDataset(x, y), loss=nn.BCEWithLogitsLoss(), shuffle=False, sampler=sampler, intents=())


def constant_and_missing_columns():
    _, z, _ = table()
    gone = np.random.default_rng(7).random(ROWS) < 0.1
    marker = np.where(gone, 0, z[:, 1])
    return make(x=np.concatenate([z, marker[:, None], gone[:, None], np.ones((ROWS, 1))], 1).astype(np.float32))


def random_patient_numbers():
    number = np.random.default_rng(8).permutation(ROWS)[:, None] / ROWS
    return make(x=np.concatenate([table()[1], number], 1).astype(np.float32))


def strong_but_honest_marker():
    _, z, y = table()
    test = y * 2.2 + np.random.default_rng(9).normal(0, 1, ROWS)
    return make(x=np.concatenate([z, test[:, None]], 1).astype(np.float32))


def two_columns_out():
    model = Net()
    model.out, model.keep = nn.Linear(48, 2), True
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 12.0]))
    metrics = {"recall": lambda output, target: (output.argmax(1) == target)[target > 0].float().mean()}
    return make(model=model, y=table()[2].astype(np.int64), loss=loss, metrics=metrics)


def in_order_of_admission():
    """The share of the ill rises through the year; not shuffled in the table, shuffled by the loader."""
    _, z, y = table()
    rng = np.random.default_rng(10)
    order = np.argsort(y * 0.4 + rng.random(ROWS))
    held = np.arange(ROWS) % 5 == 0
    x, y = torch.from_numpy(z[order]), torch.from_numpy(y[order])
    return make(train=TensorDataset(x[~held], y[~held]), val=TensorDataset(x[held], y[held]))


CASES = cases(
    build,
    {
        ill_and_minus_ill: "target-outside-loss-domain",
        one_column_and_flat_labels: ("output-shape-mismatch", "target-broadcast"),
        whole_numbers: "label-dtype-mismatch",
        logits_into_plain_bce: ("bce-on-probabilities", "target-outside-loss-domain"),
        cross_entropy_of_one_column: ("output-shape-mismatch", "labels-out-of-range", "num-classes-mismatch"),
        patients_appended: "target-leaked-into-input",
        treatment_among_the_columns: "target-leaked-into-input",
        ill_repeated_before_the_split: "train-val-leakage",
        missing_is_minus_a_million: ("inputs-not-normalised", "features-on-wild-scales"),
        division_by_an_empty_cell: "nonfinite-inputs",
        penalty_in_the_way: "regulariser-dominates",
        sigmoid_and_log_by_hand: ("unstable-log", "saturated-activations"),
        same_row_again: "repeated-samples",
        sheet_without_the_ill: ("constant-labels", "missing-classes"),
    },
    [
        focal_with_prior, sampled_evenly, constant_and_missing_columns, random_patient_numbers,
        strong_but_honest_marker, two_columns_out, in_order_of_admission,
    ],
    structural=[patients_appended, treatment_among_the_columns, ill_repeated_before_the_split],
)  # fmt: skip
