"""How far a disease goes in five grades, from a table of ten columns: ordered thresholds, one logit each."""

from __future__ import annotations

import functools

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_diabetes
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from diagnose import Pipeline
from zoo.cases import cases

GRADES, ROWS, TRAIN = 5, 1800, 1500


@functools.lru_cache
def table():
    """Patients like those of scikit-learn's table: columns of its spread, a score of our own."""
    seen = load_diabetes(scaled=False).data
    rng = np.random.default_rng(9)
    x = seen[rng.integers(0, len(seen), ROWS)] + rng.normal(0, 0.35, (ROWS, seen.shape[1])) * seen.std(0)
    z = (x - x.mean(0)) / x.std(0)
    score = z[:, 2] + 0.8 * z[:, 3] - 0.9 * np.abs(z[:, 0]) + 0.7 * z[:, 8] * z[:, 1] + rng.normal(0, 0.3, ROWS)
    grade = np.searchsorted(np.quantile(score, [0.2, 0.4, 0.6, 0.8]), score)
    return x, z.astype(np.float32), score, grade


def thresholds(output, target):
    above = (target[:, None] > torch.arange(GRADES - 1)).float()
    return F.binary_cross_entropy_with_logits(output, above)


class Scale(nn.Module):
    def __init__(self, columns=10, act=nn.ReLU, width=64):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(columns, width), act(), nn.Linear(width, width), act())
        self.out = nn.Linear(width, GRADES - 1)

    def forward(self, x):
        return self.out(self.body(x))


def grades(output, target):
    return ((output > 0).sum(1) == target).float().mean()


def make(model=None, x=None, y=None, loss=thresholds, train=None, val=None, batch=50, optimizer=None, **loader):
    x = torch.as_tensor(table()[1] if x is None else x)
    y = torch.as_tensor(table()[3] if y is None else y)
    model = model or Scale(x.shape[1])
    return Pipeline(
        model=model,
        train=DataLoader(
            train or TensorDataset(x[:TRAIN], y[:TRAIN]), **({"batch_size": batch, "shuffle": True} | loader)
        ),
        val=DataLoader(val or TensorDataset(x[TRAIN:], y[TRAIN:]), batch_size=100),
        loss=loss,
        optimizer=optimizer or torch.optim.Adam(model.parameters(), lr=3e-3),
        metrics={"exact": grades} if loss is thresholds else None,
        epochs=10,
    )


def build():
    return make()


# faults


def probabilities_of_thresholds():
    class Sure(Scale):
        def forward(self, x):
            return torch.sigmoid(super().forward(x))

    return make(model=Sure())


def score_left_in():
    """The grade was cut from a score, and the score stays among the columns, measured a little differently."""
    _, z, score, _ = table()
    measured = score / score.std() + np.random.default_rng(0).normal(0, 0.01, ROWS)
    return make(x=np.concatenate([z, measured[:, None]], 1).astype(np.float32))


def grade_as_dummies():
    _, z, _, grade = table()
    dummies = np.eye(GRADES, dtype=np.float32)[grade]
    return make(x=np.concatenate([z, dummies], 1))


def columns_in_another_order():
    """Scaled with the training table's figures, but the second file lists its columns by the alphabet."""
    x = table()[0]
    order = np.argsort(["age", "sex", "bmi", "bp", "tc", "ldl", "hdl", "tch", "ltg", "glu"])
    mean, std = x[:TRAIN].mean(0), x[:TRAIN].std(0)
    return make(x=((np.concatenate([x[:TRAIN], x[TRAIN:, order]]) - mean) / std).astype(np.float32))


def validation_unscaled():
    x, z, _, _ = table()
    return make(x=np.concatenate([z[:TRAIN], x[TRAIN:]]).astype(np.float32))


def oversampled_before_the_split():
    _, z, _, grade = table()
    rng = np.random.default_rng(1)
    rare = np.flatnonzero(grade == 4)
    every = rng.permutation(np.concatenate([np.arange(ROWS), rng.choice(rare, 900)]))
    x, y = torch.from_numpy(z[every]), torch.from_numpy(grade[every])
    return make(train=TensorDataset(x[:2200], y[:2200]), val=TensorDataset(x[2200:], y[2200:]))


def raw_columns():
    x = table()[0].copy()
    x[:, 4] *= 1e4  # cells per litre
    return make(x=x.astype(np.float32))


def batch_larger_than_the_table():
    return make(batch=2048, drop_last=True)


def sorted_by_grade():
    _, z, _, grade = table()
    order = np.argsort(grade, kind="stable")
    return make(x=z[order], y=grade[order])


def activation_forgotten():
    class Plain(Scale):
        def __init__(self):
            super().__init__()
            self.act = nn.ReLU()
            self.first, self.second = nn.Linear(10, 64), nn.Linear(64, 64)
            del self.body

        def forward(self, x):
            return self.out(self.second(self.first(x)))

    return make(model=Plain())


def nothing_trainable():
    model = Scale()
    for parameter in model.parameters():
        parameter.requires_grad = False
    return make(model=model)


def units_never_fire():
    model = Scale()
    for layer in model.body:
        if isinstance(layer, nn.Linear):
            nn.init.uniform_(layer.weight, -0.05, 0.05)
            nn.init.constant_(layer.bias, -1.0)
    return make(model=model)


def without_a_graph():
    class Quiet(Scale):
        def forward(self, x):
            with torch.no_grad():
                h = self.body(x)
            return self.out(h)

    model = Quiet()
    return make(model=model)


def grades_of_nobody():
    """The file of the grades has a line more at its head."""
    return make(y=np.roll(table()[3], 1))


# healthy


def classes_instead():
    model = Scale()
    model.out = nn.Linear(64, GRADES)
    return make(model=model, loss=nn.CrossEntropyLoss())


def ordered_biases():
    """CORAL: one score, four thresholds."""

    class Coral(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 1, bias=False))
            self.cuts = nn.Parameter(torch.linspace(1, -1, GRADES - 1))

        def forward(self, x):
            return self.body(x) + self.cuts

    return make(model=Coral())


def rounded_columns():
    """Whole numbers, many of them alike."""
    z = table()[1]
    return make(x=np.round(z * 2).astype(np.float32) / 2)


def hundred_quantiles():
    x = table()[0]
    ranks = (np.argsort(np.argsort(x, 0), 0) / ROWS).astype(np.float32)
    return make(x=ranks)


def expected_grade():
    class Expected(Scale):
        def forward(self, x):
            return torch.sigmoid(super().forward(x)).sum(1)

    return make(model=Expected(), y=table()[3].astype(np.float32), loss=nn.SmoothL1Loss())


def split_by_grade_shares():
    """A stratified split whose parts are each in the order of the grades; the loader shuffles."""
    _, z, _, grade = table()
    order = np.argsort(grade, kind="stable")
    held = np.arange(ROWS) % 6 == 0
    parts = [TensorDataset(torch.from_numpy(z[order][m]), torch.from_numpy(grade[order][m])) for m in (~held, held)]
    return make(train=parts[0], val=parts[1])


CASES = cases(
    build,
    {
        probabilities_of_thresholds: "bce-on-probabilities",
        score_left_in: "target-leaked-into-input",
        grade_as_dummies: "target-leaked-into-input",
        columns_in_another_order: "train-val-preprocessing-mismatch",
        validation_unscaled: "train-val-preprocessing-mismatch",
        oversampled_before_the_split: "train-val-leakage",
        raw_columns: ("features-on-wild-scales", "inputs-not-normalised"),
        batch_larger_than_the_table: "empty-loader",
        sorted_by_grade: "missing-classes",
        activation_forgotten: "missing-nonlinearity",
        nothing_trainable: "everything-frozen",
        units_never_fire: "dead-relu",
        without_a_graph: "graph-cut",
        grades_of_nobody: "labels-unrelated-to-inputs",
    },
    [classes_instead, ordered_biases, rounded_columns, hundred_quantiles, expected_grade, split_by_grade_shares],
    structural=[score_left_in, grade_as_dummies, oversampled_before_the_split],
)
