"""Prices of houses from a table of mixed columns: numbers, and categories that are embedded."""

from __future__ import annotations

import functools

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from diagnose import Pipeline
from zoo.cases import cases

NUMBERS = ["area", "rooms", "age", "distance", "income", "floor"]
DISTRICTS, STYLES = 12, 4


@functools.lru_cache
def table():
    rng = np.random.default_rng(5)
    n = 4000
    t = {
        "area": rng.gamma(9.0, 12.0, n),
        "rooms": rng.integers(1, 8, n).astype(float),
        "age": rng.integers(0, 90, n).astype(float),
        "distance": rng.exponential(6.0, n),
        "income": rng.lognormal(10.6, 0.4, n),
        "floor": rng.integers(0, 9, n).astype(float),
        "district": rng.integers(0, DISTRICTS, n),
        "style": rng.integers(0, STYLES, n),
    }
    premium = rng.normal(0, 0.35, DISTRICTS)[t["district"]] + np.array([0, 0.3, -0.2, 0.15])[t["style"]]
    z = 0.008 * t["area"] + 0.05 * t["rooms"] - 0.006 * t["age"] - 0.04 * t["distance"] + premium
    z += 0.4 * np.sin(t["age"] / 12) + 0.3 * np.log(t["income"] / 40000)
    t["price"] = z + rng.normal(0, 0.08, n)
    return t


def columns(names=NUMBERS, scale=True):
    x = np.stack([table()[name] for name in names], 1)
    if scale:
        x = (x - x[:3200].mean(0)) / x[:3200].std(0)
    return x


def target():
    y = table()["price"]
    return (y - y[:3200].mean()) / y[:3200].std()


def categories():
    return torch.tensor(np.stack([table()["district"], table()["style"]], 1))


class Regressor(nn.Module):
    def __init__(self, numbers=len(NUMBERS), act=nn.ReLU, squeeze=True):
        super().__init__()
        self.district = nn.Embedding(DISTRICTS, 6)
        self.style = nn.Embedding(STYLES, 3)
        self.body = nn.Sequential(nn.Linear(numbers + 9, 64), act(), nn.Linear(64, 64), act(), nn.Linear(64, 1))
        self.squeeze = squeeze

    def join(self, x, c):
        return torch.cat([x, self.district(c[:, 0]), self.style(c[:, 1])], dim=1)

    def forward(self, x, c):
        out = self.body(self.join(x, c))
        return out.squeeze(-1) if self.squeeze else out


def make(model=None, x=None, y=None, loss=None, optimizer=None, batch=64, dtype=np.float32, **rest):
    model = model if model is not None else Regressor()
    x = torch.from_numpy((columns() if x is None else x).astype(dtype))
    y = torch.from_numpy((target() if y is None else y).astype(np.float32))
    c = categories()
    train = TensorDataset(x[:3200], c[:3200], y[:3200])
    val = TensorDataset(x[3200:], c[3200:], y[3200:])
    return Pipeline(
        model=model,
        train=DataLoader(train, batch_size=batch, shuffle=True),
        val=DataLoader(val, batch_size=200),
        loss=loss or nn.MSELoss(),
        optimizer=optimizer(model) if optimizer else torch.optim.Adam(model.parameters(), lr=2e-3),
        epochs=8,
        **rest,
    )


def base():
    return make()


# faults


def logarithm_of_floor_zero():
    x = columns(scale=False)
    with np.errstate(divide="ignore"):
        x[:, 5] = np.log(x[:, 5])
    x[:, :5] = (x[:, :5] - x[:, :5].mean(0)) / x[:, :5].std(0)
    return make(x=x)


def missing_ages_left_in():
    x = columns()
    x[np.random.default_rng(0).random(len(x)) < 0.004, 2] = np.nan
    return make(x=x)


def income_in_dollars():
    x = columns()
    x[:, 4] = table()["income"]
    return make(x=x, optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=1e-2, momentum=0.9))


def price_kept_among_the_columns():
    y = target()
    x = np.concatenate([columns(), y[:, None]], 1)
    return make(Regressor(7), x=x, y=y)


def doubles():
    return make(dtype=np.float64)


def prices_sorted_alone():
    return make(y=np.sort(target()))


def price_in_dollars():
    return make(y=250_000 + 80_000 * target())


def one_column_against_a_row():
    return make(Regressor(squeeze=False))


def two_outputs_for_one_price():
    model = Regressor(squeeze=False)
    model.body[-1] = nn.Linear(64, 2)
    return make(model, loss=lambda out, y: F.mse_loss(out, y.unsqueeze(1).expand(-1, 1)))


def layers_without_activation():
    return make(Regressor(act=nn.Identity))


def embeddings_are_never_joined():
    class Model(Regressor):
        def join(self, x, c):
            embedded = torch.cat([self.district(c[:, 0]), self.style(c[:, 1])], 1)
            return torch.cat([x, torch.zeros_like(embedded)], dim=1)

    return make(Model())


def every_weight_alike():
    model = Regressor()
    for layer in model.body:
        if isinstance(layer, nn.Linear):
            nn.init.constant_(layer.weight, 0.05)
            nn.init.zeros_(layer.bias)
    return make(model)


def swish_of_ones_own():
    class Swish(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            s = torch.sigmoid(x)
            ctx.save_for_backward(x, s)
            return x * s

        @staticmethod
        def backward(ctx, grad):
            _, s = ctx.saved_tensors
            return grad * s * (1 - s)

    class Act(nn.Module):
        def forward(self, x):
            return Swish.apply(x)

    return make(Regressor(act=Act))


def tanh_of_unscaled_columns():
    return make(Regressor(act=nn.Tanh), x=columns(scale=False))


def bfloat16_weights():
    class Model(Regressor):
        def forward(self, x, c):
            return super().forward(x.bfloat16(), c).float()

    model = Model().bfloat16()
    return make(model, optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=1e-4))


def lasso_too_heavy():
    def compute_loss(model, batch):
        x, c, y = batch
        out = model(x, c)
        return F.mse_loss(out, y) + 0.5 * sum(p.abs().sum() for p in model.parameters()), out

    return make(compute_loss=compute_loss)


def detached_to_save_memory():
    class Model(Regressor):
        def forward(self, x, c):
            h = self.join(x, c)
            for layer in self.body[:-1]:
                h = layer(h)
            return self.body[-1](h.data).squeeze(-1)

    return make(Model())


def rooms_decide_everything():
    """The same house listed up to five times; the split is made by row."""
    rng = np.random.default_rng(3)
    rows = rng.integers(0, 900, 4000)
    pipeline = make(x=columns()[rows], y=target()[rows])
    for loader in (pipeline.train, pipeline.val):
        loader.dataset.tensors = (
            loader.dataset.tensors[0],
            categories()[rows][: len(loader.dataset)],
            *loader.dataset.tensors[2:],
        )
    pipeline.val.dataset.tensors = (
        pipeline.val.dataset.tensors[0],
        categories()[rows][3200:],
        pipeline.val.dataset.tensors[2],
    )
    return pipeline


def huge_epsilon():
    return make(optimizer=lambda m: torch.optim.Adam(m.parameters(), lr=2e-3, eps=1e8))


# healthy


def target_of_fifty():
    return make(y=50 + 5 * target(), optimizer=lambda m: torch.optim.Adam(m.parameters(), lr=1e-2))


def huber():
    return make(loss=nn.HuberLoss(delta=0.5))


def batchnorm_first():
    class Model(Regressor):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(6)

        def forward(self, x, c):
            return super().forward(self.norm(x), c)

    return make(Model(), x=columns(scale=False))


def variance_as_well():
    class Model(Regressor):
        def __init__(self):
            super().__init__(squeeze=False)
            self.body[-1] = nn.Linear(64, 2)

    def nll(out, y):
        return F.gaussian_nll_loss(out[:, 0], y, F.softplus(out[:, 1]) + 1e-3)

    return make(Model(), loss=nll, task="custom")


def zero_head():
    model = Regressor()
    nn.init.zeros_(model.body[-1].weight)
    nn.init.zeros_(model.body[-1].bias)
    return make(model)


CASES = cases(
    base,
    {
        logarithm_of_floor_zero: "nonfinite-inputs",
        missing_ages_left_in: "nonfinite-inputs",
        income_in_dollars: ("features-on-wild-scales", "inputs-not-normalised"),
        price_kept_among_the_columns: "target-leaked-into-input",
        doubles: "input-dtype-mismatch",
        prices_sorted_alone: "labels-unrelated-to-inputs",
        price_in_dollars: "unscaled-regression-target",
        one_column_against_a_row: "target-broadcast",
        two_outputs_for_one_price: ("output-shape-mismatch", "target-broadcast"),
        layers_without_activation: "missing-nonlinearity",
        embeddings_are_never_joined: ("ignored-input", "zero-gradient"),
        every_weight_alike: "symmetric-initialisation",
        swish_of_ones_own: "wrong-custom-backward",
        tanh_of_unscaled_columns: ("saturated-activations", "inputs-not-normalised", "features-on-wild-scales"),
        bfloat16_weights: "bf16-update-lost",
        lasso_too_heavy: "regulariser-dominates",
        detached_to_save_memory: "graph-cut",
        rooms_decide_everything: ("train-val-leakage", "duplicate-samples"),
        huge_epsilon: "adam-epsilon-out-of-range",
    },
    (target_of_fifty, huber, batchnorm_first, variance_as_well, zero_head),
    structural=(
        price_kept_among_the_columns,
        two_outputs_for_one_price,
        rooms_decide_everything,
    ),
)
