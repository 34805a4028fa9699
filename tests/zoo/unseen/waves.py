"""Which shape has this wave? Conv1d on one channel, BatchNorm, an adaptive pool."""

from __future__ import annotations

import functools

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from diagnose import Pipeline
from zoo.cases import cases

LENGTH = 64


def wave(kind, rng):
    t = np.arange(LENGTH) / LENGTH * rng.uniform(2, 5) + rng.uniform(0, 1)
    shapes = [np.sin(2 * np.pi * t), np.sign(np.sin(2 * np.pi * t)), 2 * (t % 1) - 1, 2 * np.abs(2 * (t % 1) - 1) - 1]
    return rng.uniform(0.7, 1.3) * shapes[kind] + rng.normal(0, 0.1, LENGTH)


@functools.lru_cache
def waves(count=3000, seed=0, last=3):
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, 4, count)
    x = np.stack([wave(min(k, last), rng) for k in kinds])
    return torch.tensor(x, dtype=torch.float32).unsqueeze(1), torch.tensor(kinds)


def block(cin, cout, stride=2, norm=True):
    layers = [
        nn.Conv1d(cin, cout, 5, stride=stride, padding=2),
        nn.BatchNorm1d(cout) if norm else nn.Identity(),
        nn.ReLU(),
    ]
    return nn.Sequential(*layers)


class Net(nn.Module):
    def __init__(self, norm=True, classes=4):
        super().__init__()
        self.features = nn.Sequential(block(1, 16, norm=norm), block(16, 32, norm=norm), block(32, 32, norm=norm))
        self.head = nn.Sequential(nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(32, classes))

    def forward(self, x):
        return self.head(self.features(x))


def make(
    model=None,
    train=None,
    val=None,
    loss=None,
    optimizer=None,
    batch=32,
    sampler=None,
    shuffle=True,
    scheduler=None,
    **rest,
):
    model = model if model is not None else Net()
    train, val = train or waves(), val or waves(600, 1)
    opt = optimizer(model) if optimizer else torch.optim.Adam(model.parameters(), lr=2e-3)
    rest.setdefault("epochs", 6)
    return Pipeline(
        model=model,
        train=DataLoader(TensorDataset(*train), batch_size=batch, shuffle=shuffle and sampler is None, sampler=sampler),
        val=DataLoader(TensorDataset(*val), batch_size=100),
        loss=loss or nn.CrossEntropyLoss(),
        optimizer=opt,
        scheduler=scheduler(opt) if scheduler else None,
        **rest,
    )


def base():
    return make()


SGD = lambda m: torch.optim.SGD(m.parameters(), lr=0.05, momentum=0.9)  # noqa: E731

# faults


def raw_readings():
    (x, y), (vx, vy) = waves(), waves(600, 1)
    return make(Net(norm=False), train=(x * 300 + 2048, y), val=(vx * 300 + 2048, vy), optimizer=SGD)


def validation_is_raw():
    vx, vy = waves(600, 1)
    return make(val=(vx * 300 + 2048, vy))


def last_block_is_like_the_others():
    """A list of widths builds every layer alike, the one of the logits as well."""

    def dense(cin, cout):
        return nn.Sequential(nn.Linear(cin, cout), nn.ReLU())

    model = Net()
    widths = [32, 32, 4]
    model.head = nn.Sequential(
        nn.AdaptiveAvgPool1d(1), nn.Flatten(), *(dense(a, b) for a, b in zip(widths, widths[1:], strict=False))
    )
    return make(model)


def split_of_a_sorted_file():
    x, y = waves(3600, 0)
    order = y.argsort(stable=True)
    x, y = x[order], y[order]
    return make(train=(x[:2700], y[:2700]), val=(x[2700:], y[2700:]))


def two_names_for_one_shape():
    return make(train=waves(3000, 0, 2), val=waves(600, 1, 2))


def copies_before_the_split():
    x, y = waves(1500, 0)
    pick = torch.randint(0, 1500, (3600,), generator=torch.Generator().manual_seed(0))
    x, y = x[pick], y[pick]
    return make(train=(x[:3000], y[:3000]), val=(x[3000:], y[3000:]))


def functional_dropout():
    class Model(Net):
        def forward(self, x):
            return self.head(F.dropout(self.features(x), 0.3))

    return make(Model())


def scaled_by_each_wave():
    """Some sensors were off: their waves are flat, and are divided by their deviation."""

    class Model(Net):
        def forward(self, x):
            return super().forward((x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True))

    x, y = waves()
    x = x.clone()
    x[::40] = 0.0
    return make(Model(), train=(x, y))


def last_batch_of_one():
    class Model(Net):
        def __init__(self):
            super().__init__()
            self.head = nn.Sequential(
                nn.AdaptiveAvgPool1d(1),
                nn.Flatten(),
                nn.Linear(32, 32),
                nn.BatchNorm1d(32),
                nn.ReLU(),
                nn.Linear(32, 4),
            )

    x, y = waves()
    return make(Model(), train=(x[:2977], y[:2977]))


def encoder_under_no_grad():
    class Model(Net):
        def forward(self, x):
            with torch.no_grad():
                h = self.features(x)
            return self.head(h)

    return make(Model())


def codes_are_rounded():
    class Model(Net):
        def forward(self, x):
            return self.head(torch.round(self.features(x) * 4) / 4)

    return make(Model())


def running_average_turned_round():
    """momentum=0.001, by one who thinks of it as TensorFlow's 0.999."""
    model = Net()
    for m in model.modules():
        if isinstance(m, nn.BatchNorm1d):
            m.momentum = 0.0005
    x, y = waves()
    return make(model, train=(x * 5 + 3, y), val=(waves(600, 1)[0] * 5 + 3, waves(600, 1)[1]))


def epoch_settings_at_every_step():
    return make(
        scheduler=lambda o: torch.optim.lr_scheduler.StepLR(o, step_size=2, gamma=0.5), scheduler_interval="step"
    )


def cosine_of_five():
    return make(scheduler=lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=5), epochs=40)


def reads_by_time_first():
    """(N, L, C) given to a convolution that wants (N, C, L)."""
    (x, y), (vx, vy) = waves(), waves(600, 1)
    return make(train=(x.transpose(1, 2), y), val=(vx.transpose(1, 2), vy))


def sorted_and_not_shuffled():
    x, y = waves()
    order = y.argsort(stable=True)
    return make(train=(x[order], y[order]), shuffle=False)


def leak_in_the_first_reading():
    (x, y), (vx, vy) = waves(), waves(600, 1)
    x, vx = x.clone(), vx.clone()
    x[:, 0, 0], vx[:, 0, 0] = y.float() / 2, vy.float() / 2
    return make(train=(x, y), val=(vx, vy))


# healthy


def batchnorm_before_anything():
    class Model(Net):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(1)

        def forward(self, x):
            return super().forward(self.norm(x))

    (x, y), (vx, vy) = waves(), waves(600, 1)
    return make(Model(), train=(x * 300 + 2048, y), val=(vx * 300 + 2048, vy))


def one_cycle():
    return make(
        scheduler=lambda o: torch.optim.lr_scheduler.OneCycleLR(o, max_lr=1e-2, total_steps=6 * 94),
        scheduler_interval="step",
    )


def weighted_sampler():
    x, y = waves()
    keep = (y != 3) | (torch.arange(len(y)) % 6 == 0)
    x, y = x[keep], y[keep]
    weights = (1 / torch.bincount(y).float())[y]
    return make(train=(x, y), sampler=WeightedRandomSampler(weights.tolist(), len(y)))


def zero_init_head():
    model = Net()
    nn.init.zeros_(model.head[-1].weight)
    nn.init.zeros_(model.head[-1].bias)
    return make(model)


def ctc():
    """Two waves one after the other; their names without places."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(block(1, 16), block(16, 32), block(32, 32, stride=1))
            self.out = nn.Conv1d(32, 5, 1)

        def forward(self, x):
            return self.out(self.features(x)).permute(2, 0, 1).log_softmax(-1)

    def joined(data):
        x, y = data
        half = len(x) // 2
        return torch.cat([x[:half], x[half : 2 * half]], -1), torch.stack([y[:half], y[half : 2 * half]], 1) + 1

    def loss(model, batch):
        x, y = batch
        out = model(x)
        steps = torch.full((len(x),), out.shape[0])
        return F.ctc_loss(out, y, steps, torch.full((len(x),), 2), zero_infinity=True)

    return make(Model(), train=joined(waves()), val=joined(waves(600, 1)), compute_loss=loss, task="custom")


CASES = cases(
    base,
    {
        raw_readings: "inputs-not-normalised",
        validation_is_raw: "train-val-preprocessing-mismatch",
        last_block_is_like_the_others: "activation-on-logits",
        split_of_a_sorted_file: "missing-classes",
        two_names_for_one_shape: "classes-overlap",
        copies_before_the_split: "train-val-leakage",
        functional_dropout: "nondeterministic-eval",
        scaled_by_each_wave: ("nonfinite-activations", "nonfinite-loss"),
        last_batch_of_one: "batchnorm-on-single-sample",
        encoder_under_no_grad: "graph-cut",
        codes_are_rounded: ("zero-gradient", "graph-cut"),
        running_average_turned_round: "batchnorm-statistics-lag",
        epoch_settings_at_every_step: "schedule-collapses",
        cosine_of_five: "schedule-period-mismatch",
        reads_by_time_first: ("channels-last-input", "forward-shape-mismatch"),
        sorted_and_not_shuffled: "unshuffled-training-data",
        leak_in_the_first_reading: "target-leaked-into-input",
    },
    (batchnorm_before_anything, one_cycle, weighted_sampler, zero_init_head, ctc),
    structural=(
        copies_before_the_split,
        functional_dropout,
        cosine_of_five,
        leak_in_the_first_reading,
    ),
)
