"""Sounds of five kinds as log spectrograms, by convolutions along frequency and a GRU along time."""

from __future__ import annotations

import functools

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from diagnose import Pipeline
from zoo.cases import cases

BANDS, FRAMES, KINDS, COUNT, TRAIN = 24, 30, 5, 900, 720
NAMES = ["chirp", "click", "hum", "siren", "wind"]


def power(kind, rng):
    """(24, 30) energy per band and frame."""
    band, frame = np.mgrid[0:BANDS, 0:FRAMES]
    at = rng.uniform(6, 17)
    line = {
        "chirp": at - 6 + 12 * frame / FRAMES,
        "click": np.where(frame % 10 < 2, at, -50),
        "hum": at + 0 * frame,
        "siren": at + 5 * np.sin(2 * np.pi * frame / 12 + rng.uniform(0, 6)),
        "wind": None,
    }[NAMES[kind]]
    if line is None:
        loud = np.repeat(rng.gamma(0.5, 2.0, (BANDS, FRAMES // 6)), 6, 1)
    else:
        loud = 9 * np.exp(-((band - line) ** 2) / 3)
    return rng.gamma(2.0, 0.5, (BANDS, FRAMES)) * (0.15 + loud) * rng.lognormal(0, 0.5)


@functools.lru_cache
def sounds():
    rng = np.random.default_rng(80)
    y = rng.integers(0, KINDS, COUNT)
    return np.stack([power(k, rng) for k in y]), y


def decibel(p):
    return ((np.log(p + 1e-4) + 0.8) / 1.6).astype(np.float32)


class Sounds(Dataset):
    def __init__(self, begin, end, scale=decibel, label=lambda y: y, augment=False):
        p, y = sounds()
        self.p, self.y, self.scale, self.label, self.augment = p[begin:end], y[begin:end], scale, label, augment
        self.rng = np.random.default_rng(0)

    def __len__(self):
        return len(self.y)

    def mask(self, x):
        begin = torch.randint(FRAMES - 5, ())
        x[:, :, begin : begin + 5] = 0
        return x

    def __getitem__(self, i):
        x = torch.from_numpy(self.scale(self.p[i]))[None]
        return self.mask(x) if self.augment else x, self.label(int(self.y[i]))


class Listener(nn.Module):
    def __init__(self, batch_first=True, classes=KINDS, width=32):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d((4, 1)),
            nn.Conv2d(8, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d((2, 2)),
        )  # fmt: skip
        self.gru = nn.GRU(12 * 3, width, batch_first=batch_first)
        self.out = nn.Linear(width, classes)

    def frames(self, x):
        return self.conv(x).flatten(1, 2).transpose(1, 2)

    def forward(self, x):
        return self.out(self.gru(self.frames(x))[0].mean(1))


def make(model=None, data=Sounds, loss=None, augment=True, augment_val=False, workers=0, val_scale=None, **kw):
    model = model or Listener()
    val = kw | ({"scale": val_scale} if val_scale else {})
    return Pipeline(
        model=model,
        train=DataLoader(data(0, TRAIN, augment=augment, **kw), batch_size=32, shuffle=True, num_workers=workers),
        val=DataLoader(data(TRAIN, COUNT, augment=augment_val, **val), batch_size=60),
        loss=loss or nn.CrossEntropyLoss(),
        optimizer=torch.optim.AdamW(model.parameters(), lr=3e-3),
        epochs=6,
    )


def build():
    return make()


# faults


def log_of_silence():
    def scale(p):
        with np.errstate(divide="ignore"):
            return np.log(np.where(p < 0.02, 0, p)).astype(np.float32)

    return make(scale=scale)


def time_second():
    return make(model=Listener(batch_first=False))


def masked_in_validation_too():
    return make(augment_val=True)


class OwnGenerator(Sounds):
    """Every worker has its copy of one generator."""

    def mask(self, x):
        begin = int(self.rng.integers(FRAMES - 5))
        x[:, :, begin : begin + 5] = 0
        return x + torch.from_numpy(self.rng.normal(0, 0.05, x.shape).astype(np.float32))


def generator_in_the_dataset():
    return make(data=OwnGenerator, workers=2)


def cut_to_whole_numbers():
    return make(scale=lambda p: (p / 32768).astype(np.int16).astype(np.float32), augment=False)


def energy_as_it_is():
    class Plain(Listener):
        def __init__(self):
            super().__init__()
            self.conv[1] = nn.Identity()

    return make(model=Plain(), scale=lambda p: (p * 1e6).astype(np.float32), augment=False)


def classes_by_file_of_the_split():
    """The kinds are numbered as they first occur in the list of each split."""

    class Numbered(Sounds):
        def __init__(self, begin, end, **kw):
            super().__init__(begin, end, **kw)
            seen = list(dict.fromkeys(self.y.tolist()))
            self.y = np.array([seen.index(k) for k in self.y])

    return make(data=Numbered)


def kind_as_a_number():
    model = Listener(classes=1)
    return make(model=model, label=lambda y: torch.tensor([float(y)]), loss=nn.MSELoss())


def power_in_validation():
    return make(val_scale=lambda p: p.astype(np.float32))


def spectrum_folded_wrongly():
    class Folded(Listener):
        def frames(self, x):
            h = self.conv(x)
            return h.reshape(h.shape[3], h.shape[0], -1).transpose(0, 1)

    return make(model=Folded())


def last_state_of_a_sequence_first_net():
    class First(Listener):
        def forward(self, x):
            return self.out(self.gru(self.frames(x))[0][-1])

    return make(model=First())


def dropout_as_a_function():
    class Functional(Listener):
        def frames(self, x):
            return F.dropout2d(super().frames(x), 0.4)

    return make(model=Functional())


def a_row_of_zero_energy():
    class Root(Listener):
        def forward(self, x):
            h = self.gru(self.frames(x))[0]
            return self.out(h.mean(1) / (h - h[:, :1]).pow(2).sum(2).sqrt().mean(1, keepdim=True))

    return make(model=Root())


# healthy


class Reseeded(OwnGenerator):
    """With workers: the generator is made in each, from the worker's own seed."""

    def __getitem__(self, i):
        info = torch.utils.data.get_worker_info()
        if info is not None and getattr(self, "owner", None) != info.seed:
            self.rng, self.owner = np.random.default_rng(info.seed), info.seed
        return super().__getitem__(i)


def generator_of_each_worker():
    return make(data=Reseeded, workers=2)


def squares_of_probabilities():
    def brier(output, target):
        return (output.softmax(1) - F.one_hot(target, KINDS)).pow(2).sum(1).mean()

    return make(loss=brier)


def mixed_up():
    """Mixup in the collate function, soft targets out of it."""

    def collate(rows):
        x, y = torch.stack([r[0] for r in rows]), F.one_hot(torch.tensor([r[1] for r in rows]), KINDS).float()
        share = torch.distributions.Beta(0.4, 0.4).sample((len(x),))
        order = torch.randperm(len(x))
        mix = share[:, None, None, None]
        return mix * x + (1 - mix) * x[order], share[:, None] * y + (1 - share[:, None]) * y[order]

    pipeline = make()
    pipeline.train = DataLoader(Sounds(0, TRAIN), batch_size=32, shuffle=True, collate_fn=collate)
    return pipeline


def decibels_below_zero():
    """In decibels, from -90 to 10, behind a normalising layer."""

    class Normed(Listener):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(1)

        def frames(self, x):
            return super().frames(self.norm(x))

    return make(model=Normed(), scale=lambda p: (10 * np.log10(p + 1e-6) - 30).astype(np.float32), augment=False)


CASES = cases(
    build,
    {
        log_of_silence: "nonfinite-inputs",
        time_second: "batch-mixing",
        masked_in_validation_too: "augmentation-on-validation",
        generator_in_the_dataset: "duplicate-worker-randomness",
        cut_to_whole_numbers: "constant-inputs",
        energy_as_it_is: "inputs-not-normalised",
        classes_by_file_of_the_split: "label-map-differs-in-validation",
        kind_as_a_number: "mse-for-classification",
        power_in_validation: "train-val-preprocessing-mismatch",
        spectrum_folded_wrongly: "batch-mixing",
        last_state_of_a_sequence_first_net: ("output-shape-mismatch", "batch-mixing"),
        dropout_as_a_function: "nondeterministic-eval",
        a_row_of_zero_energy: ("unstable-log", "nonfinite-gradient"),
    },
    [generator_of_each_worker, squares_of_probabilities, mixed_up, decibels_below_zero],
    structural=[masked_in_validation_too, generator_in_the_dataset],
)
