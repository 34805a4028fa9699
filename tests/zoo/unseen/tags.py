"""Several labels at once, with binary cross-entropy."""

from __future__ import annotations

import functools

import numpy as np
import torch
from sklearn.datasets import make_multilabel_classification
from torch import nn
from torch.utils.data import DataLoader, Dataset

from diagnose import Pipeline
from zoo.cases import cases

TAGS = 8


@functools.lru_cache
def frame():
    x, y = make_multilabel_classification(3600, n_features=30, n_classes=TAGS, n_labels=2, random_state=4)
    return np.sqrt(x).astype(np.float32), y.astype(np.float32)


class Rows(Dataset):
    def __init__(self, start, stop, dtype=torch.float32):
        x, y = frame()
        mean, std = x[:3000].mean(0), x[:3000].std(0) + 1e-6
        self.x = (x[start:stop] - mean) / std
        self.y = y[start:stop]
        self.dtype = dtype

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], torch.tensor(self.y[i], dtype=self.dtype)


class Tagger(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Linear(30, width), nn.PReLU(), nn.Dropout(0.1), nn.Linear(width, width), nn.PReLU()
        )
        self.tags = nn.Linear(width, TAGS)

    def forward(self, x):
        return self.tags(self.trunk(x))


def make(model=None, train=None, val=None, loss=None, optimizer=None, batch=64, **rest):
    model = model if model is not None else Tagger()
    return Pipeline(
        model=model,
        train=DataLoader(train or Rows(0, 3000), batch_size=batch, shuffle=True),
        val=DataLoader(val or Rows(3000, 3600), batch_size=100),
        loss=loss or nn.BCEWithLogitsLoss(),
        optimizer=optimizer(model) if optimizer else torch.optim.Adam(model.parameters(), lr=2e-3),
        epochs=6,
        **rest,
    )


def base():
    return make()


# faults


def sigmoid_twice():
    class Model(Tagger):
        def forward(self, x):
            return super().forward(x).sigmoid()

    return make(Model())


def logits_into_bce():
    return make(loss=lambda out, y: nn.functional.binary_cross_entropy(out.clamp(1e-6, 1 - 1e-6), y))


def integer_tags():
    return make(train=Rows(0, 3000, torch.long), val=Rows(3000, 3600, torch.long))


def accuracy_as_a_loss():
    return make(loss=lambda out, y: (out.gt(0).float() - y).abs().mean().requires_grad_())


def softmax_over_tags():
    class Model(Tagger):
        def forward(self, x):
            return super().forward(x).softmax(dim=1)

    return make(Model(), loss=nn.BCELoss())


def tags_counted_from_minus_one():
    """-1 for no, 1 for yes."""

    class Signed(Rows):
        def __getitem__(self, i):
            x, y = super().__getitem__(i)
            return x, 2 * y - 1

    return make(train=Signed(0, 3000), val=Signed(3000, 3600))


def rows_three_times():
    class Thrice(Rows):
        def __init__(self, start, stop):
            super().__init__(start, stop)
            self.x, self.y = np.concatenate([self.x] * 3), np.concatenate([self.y] * 3)

    return make(train=Thrice(0, 1000))


def tanh_head():
    class Model(Tagger):
        def forward(self, x):
            return torch.tanh(super().forward(x))

    return make(Model())


def parameters_given_once():
    """The optimizer is built for the model of an earlier fold."""
    old = Tagger()
    return make(optimizer=lambda m: torch.optim.Adam(old.parameters(), lr=2e-3))


# healthy


def prior_bias():
    model = Tagger()
    nn.init.constant_(model.tags.bias, -4.6)
    return make(model)


def focal():
    def loss(out, y):
        bce = nn.functional.binary_cross_entropy_with_logits(out, y, reduction="none")
        return ((1 - torch.exp(-bce)) ** 2 * bce).mean()

    return make(loss=loss)


def positive_weights():
    return make(loss=nn.BCEWithLogitsLoss(pos_weight=torch.full((TAGS,), 3.0)))


def probabilities_with_bce():
    class Model(Tagger):
        def forward(self, x):
            return super().forward(x).sigmoid()

    return make(Model(), loss=nn.BCELoss())


CASES = cases(
    base,
    {
        sigmoid_twice: "bce-on-probabilities",
        logits_into_bce: ("bce-on-probabilities", "zero-gradient"),
        integer_tags: "label-dtype-mismatch",
        accuracy_as_a_loss: "loss-detached",
        softmax_over_tags: ("activation-on-logits", "bce-on-probabilities"),
        tags_counted_from_minus_one: "target-outside-loss-domain",
        rows_three_times: "duplicate-samples",
        tanh_head: "activation-on-logits",
        parameters_given_once: "stale-optimizer-parameters",
    },
    (prior_bias, focal, positive_weights, probabilities_with_bce),
    structural=(rows_three_times,),
)
