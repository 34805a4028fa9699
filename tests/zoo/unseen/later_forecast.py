"""Forecasts: 36 hours of three series in, the next 6 hours of the first out, by a small transformer encoder."""

from __future__ import annotations

import functools

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset

from diagnose import Pipeline
from zoo.cases import cases

PAST, AHEAD, HOURS, TRAIN = 36, 6, 2400, 1900


@functools.lru_cache
def series():
    rng = np.random.default_rng(4)
    t = np.arange(HOURS)
    weather = np.convolve(rng.normal(0, 1, HOURS + 48), np.hanning(24) / 12, "same")[:HOURS]
    day, week = np.sin(2 * np.pi * t / 24), np.sin(2 * np.pi * t / 168)
    load = 900 + 220 * day + 90 * week + 120 * weather * (1 + 0.4 * day) + rng.normal(0, 15, HOURS)
    return np.stack([load, 12 + 6 * weather + rng.normal(0, 0.5, HOURS), t % 24.0], 1).astype(np.float32)


def scaled(raw=None):
    raw = series() if raw is None else raw
    known = raw[:TRAIN]
    return (raw - known.mean(0)) / known.std(0)


class Windows(Dataset):
    def __init__(self, values, begin=0, end=HOURS, target=None, gap=0, column=False):
        self.values, self.begin, self.end = torch.from_numpy(values), begin, end
        self.target = self.values[:, 0] if target is None else torch.from_numpy(target)
        self.gap, self.column = gap, column

    def __len__(self):
        return self.end - self.begin - PAST - AHEAD

    def __getitem__(self, i):
        start = self.begin + i
        y = self.target[start + PAST + self.gap : start + PAST + AHEAD + self.gap]
        return self.values[start : start + PAST], y


class Forecaster(nn.Module):
    def __init__(self, batch_first=True, out=AHEAD, width=32):
        super().__init__()
        self.lift = nn.Linear(3, width)
        self.place = nn.Parameter(torch.randn(1, PAST, width) * 0.02)
        layer = nn.TransformerEncoderLayer(width, 4, 64, dropout=0.1, batch_first=batch_first)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.out = nn.Linear(width, out)

    def forward(self, x):
        return self.out(self.encoder(self.lift(x) + self.place)[:, -1])


def make(model=None, values=None, train=None, val=None, loss=None, shuffle=True, **windows):
    model = model or Forecaster()
    values = scaled() if values is None else values
    train = train or Windows(values, 0, TRAIN, **windows)
    val = val or Windows(values, TRAIN, HOURS, **windows)
    return Pipeline(
        model=model,
        train=DataLoader(train, batch_size=32, shuffle=shuffle),
        val=DataLoader(val, batch_size=64),
        loss=loss or nn.MSELoss(),
        optimizer=torch.optim.AdamW(model.parameters(), lr=2e-3),
        epochs=8,
    )


def build():
    return make()


# faults


def window_over_its_horizon():
    return make(gap=-AHEAD)


def windows_split_at_random():
    everything = Windows(scaled())
    order = torch.randperm(len(everything), generator=torch.Generator().manual_seed(0)).tolist()
    return make(train=Subset(everything, order[:1900]), val=Subset(everything, order[1900:]))


def sequence_first_encoder():
    return make(model=Forecaster(batch_first=False))


def rolling_mean_of_the_start():
    raw = series().copy()
    smooth = np.convolve(raw[:, 1], np.ones(24) / 24, "full")[:HOURS]
    smooth[:23] = np.nan
    raw[:, 1] = smooth
    known = raw[:TRAIN]
    return make(values=(raw - np.nanmean(known, 0)) / np.nanstd(known, 0))


def load_in_watts():
    return make(target=series()[:, 0] * 1000)


def all_in_raw_units():
    return make(values=series() * np.array([1000, 1, 1], np.float32), target=scaled()[:, 0])


def place_by_batch():
    class Swapped(Forecaster):
        def __init__(self):
            super().__init__()
            position = torch.arange(500).unsqueeze(1)
            rate = torch.exp(torch.arange(0, 32, 2) * (-np.log(10000.0) / 32))
            table = torch.zeros(500, 1, 32)
            table[:, 0, 0::2], table[:, 0, 1::2] = torch.sin(position * rate), torch.cos(position * rate)
            self.register_buffer("table", table)
            del self.place

        def forward(self, x):
            return self.out(self.encoder(self.lift(x) + self.table[: x.size(0)])[:, -1])

    return make(model=Swapped())


def noise_for_ever():
    class Noisy(Forecaster):
        def forward(self, x):
            return super().forward(x + 0.5 * torch.randn_like(x))

    return make(model=Noisy())


def horizon_as_column():
    """The whole horizon's mean is forecast: (N, 1) against (N,)."""

    class Mean(Dataset):
        def __init__(self, begin, end):
            self.windows = Windows(scaled(), begin, end)

        def __len__(self):
            return len(self.windows)

        def __getitem__(self, i):
            x, y = self.windows[i]
            return x, y.mean()

    return make(model=Forecaster(out=1), train=Mean(0, TRAIN), val=Mean(TRAIN, HOURS), loss=nn.SmoothL1Loss())


def mean_of_validation():
    """Each split scaled with its own figures, and validation by the range instead of the spread."""
    raw = series()
    later = raw[TRAIN:]
    values = (raw - later.min(0)) / (later.max(0) - later.min(0))
    return make(val=Windows(values.astype(np.float32), TRAIN, HOURS, target=scaled()[:, 0]))


# healthy


class Reversible(Forecaster):
    """Each window by its own mean and spread, put back at the end."""

    def forward(self, x):
        mean, std = x[:, :, :1].mean(1).detach(), x[:, :, :1].std(1).detach() + 1e-3
        x = torch.cat([(x[:, :, :1] - mean[:, None]) / std[:, None], x[:, :, 1:]], 2)
        return super().forward(x) * std + mean


def reversible():
    return make(model=Reversible())


def last_value_and_a_change():
    class Change(Forecaster):
        def __init__(self):
            super().__init__()
            nn.init.zeros_(self.out.weight)
            nn.init.zeros_(self.out.bias)

        def forward(self, x):
            return x[:, -1:, 0] + super().forward(x)

    return make(model=Change())


def gaussian():
    class Gaussian(Forecaster):
        def __init__(self):
            super().__init__(out=2 * AHEAD)

    def loss(output, target):
        mean, log_var = output.chunk(2, 1)
        return F.gaussian_nll_loss(mean, target, log_var.clamp(-6, 4).exp())

    return make(model=Gaussian(), loss=loss)


def causal():
    class Causal(Forecaster):
        def forward(self, x):
            mask = nn.Transformer.generate_square_subsequent_mask(PAST)
            return self.out(self.encoder(self.lift(x) + self.place, mask=mask, is_causal=True)[:, -1])

    return make(model=Causal())


def quantiles():
    levels = torch.tensor([0.1, 0.5, 0.9])

    def pinball(output, target):
        off = target[:, :, None] - output.view(-1, AHEAD, 3)
        return torch.maximum(levels * off, (levels - 1) * off).mean()

    return make(model=Forecaster(out=3 * AHEAD), loss=pinball)


CASES = cases(
    build,
    {
        window_over_its_horizon: "target-leaked-into-input",
        windows_split_at_random: "train-val-leakage",
        sequence_first_encoder: "batch-mixing",
        rolling_mean_of_the_start: "nonfinite-inputs",
        load_in_watts: "unscaled-regression-target",
        all_in_raw_units: ("inputs-not-normalised", "features-on-wild-scales"),
        place_by_batch: "batch-mixing",
        noise_for_ever: "nondeterministic-eval",
        horizon_as_column: "target-broadcast",
        mean_of_validation: "train-val-preprocessing-mismatch",
    },
    [reversible, last_value_and_a_change, gaussian, causal, quantiles],
    structural=[window_over_its_horizon, windows_split_at_random, place_by_batch, sequence_first_encoder],
)
