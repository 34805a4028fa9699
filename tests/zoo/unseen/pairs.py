"""Which two handwritten digits are the same? A siamese network with a contrastive loss."""

from __future__ import annotations

import functools

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset

from diagnose import Pipeline
from zoo.cases import cases


@functools.lru_cache
def digits():
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    return torch.tensor(x[order] / 8 - 1, dtype=torch.float32).view(-1, 1, 8, 8), torch.tensor(y[order])


class Pairs(Dataset):
    def __init__(self, start, stop, count, seed):
        x, y = digits()
        self.x, self.y = x[start:stop], y[start:stop]
        rng = np.random.default_rng(seed)
        self.pairs = []
        for _ in range(count):
            a = int(rng.integers(len(self.x)))
            same = rng.random() < 0.5
            others = torch.nonzero((self.y == self.y[a]) == same).flatten()
            self.pairs.append((a, int(others[rng.integers(len(others))]), float(same)))

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, i):
        a, b, same = self.pairs[i]
        return self.x[a], self.x[b], torch.tensor(same)


@functools.lru_cache
def splits():
    return Pairs(0, 1400, 3000, 1), Pairs(1400, 1797, 600, 2)


class Tower(nn.Module):
    def __init__(self, size=16):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.Flatten()
        )
        self.project = nn.Linear(32 * 4, size)

    def forward(self, x):
        return self.project(self.features(x))


class Siamese(nn.Module):
    def __init__(self):
        super().__init__()
        self.tower = Tower()

    def forward(self, a, b):
        return self.tower(a), self.tower(b)


MARGIN = 2.0


def contrastive(output, same):
    a, b = output
    distance = F.pairwise_distance(a, b)
    return (same * distance**2 + (1 - same) * F.relu(MARGIN - distance) ** 2).mean()


def make(model=None, loss=contrastive, train=None, val=None, optimizer=None, compute_loss=None, **rest):
    model = model if model is not None else Siamese()

    def default(model, batch):
        a, b, same = batch
        return loss(model(a, b), same)

    return Pipeline(
        model=model,
        train=DataLoader(train or splits()[0], batch_size=64, shuffle=True),
        val=DataLoader(val or splits()[1], batch_size=100),
        compute_loss=compute_loss or default,
        optimizer=optimizer(model) if optimizer else torch.optim.Adam(model.parameters(), lr=1e-3),
        task="custom",
        epochs=6,
        **rest,
    )


def base():
    return make()


# faults


def projection_in_forward():
    class Fresh(Tower):
        def forward(self, x):
            return nn.Linear(128, 16)(self.features(x))

    model = Siamese()
    model.tower = Fresh()
    return make(model)


def second_tower_without_gradient():
    class Model(Siamese):
        def forward(self, a, b):
            with torch.no_grad():
                return self.tower(a), self.tower(b)

    return make(Model())


def distance_by_root():
    """The distance of a picture to itself is 0, and its root has no slope there."""

    def loss(output, same):
        a, b = output
        distance = ((a - b) ** 2).sum(1).sqrt()
        return (same * distance**2 + (1 - same) * F.relu(MARGIN - distance) ** 2).mean()

    class WithItself(Pairs):
        def __init__(self, *args):
            super().__init__(*args)
            self.pairs = [(a, a, 1.0) if i % 9 == 0 else (a, b, s) for i, (a, b, s) in enumerate(self.pairs)]

    return make(loss=loss, train=WithItself(0, 1400, 3000, 1))


def margin_never_reached():
    def loss(output, same):
        a, b = output
        distance = F.pairwise_distance(F.normalize(a, dim=1), F.normalize(b, dim=1))
        return F.relu(distance - 2.5).pow(2).mul(same).mean() + F.relu(-distance).mul(1 - same).mean()

    return make(loss=loss)


def tower_in_half():
    class Model(Siamese):
        def forward(self, a, b):
            a, b = super().forward(a * 300, b * 300)
            return (a.half() ** 3).float(), (b.half() ** 3).float()

    return make(Model())


def features_through_a_list():
    class Model(Siamese):
        def forward(self, a, b):
            return tuple(self.tower.project(torch.tensor(self.tower.features(x).tolist())) for x in (a, b))

    return make(Model())


def optimizer_of_a_copy():
    import copy

    return make(optimizer=lambda m: torch.optim.Adam(copy.deepcopy(m).parameters(), lr=1e-3))


# healthy


def stop_gradient():
    """SimSiam: one side is detached on purpose."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.tower = Tower(32)
            self.predict = nn.Sequential(nn.Linear(32, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 32))

        def forward(self, a, b):
            za, zb = self.tower(a), self.tower(b)
            return self.predict(za), self.predict(zb), za.detach(), zb.detach()

    def compute_loss(model, batch):
        a, b, _ = batch
        pa, pb, za, zb = model(a, b)
        return -(F.cosine_similarity(pa, zb).mean() + F.cosine_similarity(pb, za).mean()) / 2

    return make(Model(), compute_loss=compute_loss)


def cosine():
    return make(loss=lambda o, same: F.cosine_embedding_loss(o[0], o[1], 2 * same - 1, margin=0.2))


def triplets():
    class Triplets(Pairs):
        def __getitem__(self, i):
            a, _, _ = self.pairs[i]
            g = torch.Generator().manual_seed(i)
            same = torch.nonzero(self.y == self.y[a]).flatten()
            other = torch.nonzero(self.y != self.y[a]).flatten()
            pick = lambda pool: int(pool[torch.randint(len(pool), (1,), generator=g)])  # noqa: E731
            return self.x[a], self.x[pick(same)], self.x[pick(other)]

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.tower = Tower()

        def forward(self, a, p, n):
            return self.tower(a), self.tower(p), self.tower(n)

    return make(
        Model(),
        train=Triplets(0, 1400, 3000, 1),
        val=Triplets(1400, 1797, 600, 2),
        compute_loss=lambda model, batch: F.triplet_margin_loss(*model(*batch), margin=0.5),
    )


CASES = cases(
    base,
    {
        projection_in_forward: "layer-created-in-forward",
        second_tower_without_gradient: ("loss-detached", "graph-cut"),
        distance_by_root: ("nonfinite-gradient", "unstable-log"),
        margin_never_reached: "zero-gradient",
        tower_in_half: ("fp16-overflow", "nonfinite-loss", "nonfinite-activations"),
        features_through_a_list: "graph-cut",
        optimizer_of_a_copy: "stale-optimizer-parameters",
    },
    (stop_gradient, cosine, triplets),
    structural=(
        projection_in_forward,
        second_tower_without_gradient,
        distance_by_root,
        margin_never_reached,
        tower_in_half,
        features_through_a_list,
        optimizer_of_a_copy,
    ),
)
