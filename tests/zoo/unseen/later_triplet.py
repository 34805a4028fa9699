"""Digits as vectors: an anchor, one of its kind and one of another, and the triplet loss. No labels in the batch."""

from __future__ import annotations

import copy
import functools

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from diagnose import Pipeline
from zoo.cases import cases

TRAIN = 1400


@functools.lru_cache
def digits():
    data = load_digits()
    order = np.random.default_rng(12).permutation(len(data.target))
    images = torch.tensor(data.images[order], dtype=torch.float32)[:, None] / 16
    return images, torch.tensor(data.target[order])


class Triplets(Dataset):
    def __init__(self, begin, end, itself=False, frozen=False):
        self.images, self.labels = (column[begin:end] for column in digits())
        self.kinds = [torch.nonzero(self.labels == k)[:, 0] for k in range(10)]
        self.itself, self.frozen = itself, frozen

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        if self.frozen:
            np.random.seed(0)
            i = np.random.randint(len(self))
        label = int(self.labels[i])
        same = self.kinds[label]
        positive = same[np.random.randint(len(same))]
        while positive == i and not self.itself:
            positive = same[np.random.randint(len(same))]
        others = self.kinds[(label + np.random.randint(1, 10)) % 10]
        return self.images[i], self.images[positive], self.images[others[np.random.randint(len(others))]]


class Embedder(nn.Module):
    def __init__(self, size=16):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU()
        )
        self.out = nn.Linear(32 * 16, size)

    def forward(self, x):
        return F.normalize(self.out(self.conv(x).flatten(1)), dim=1)


def triplet(model, batch):
    anchor, positive, negative = batch
    return F.triplet_margin_loss(model(anchor), model(positive), model(negative), margin=0.5)


def make(model=None, compute_loss=triplet, data=Triplets, optimizer=None, **rest):
    model = model or Embedder()
    return Pipeline(
        model=model,
        train=DataLoader(data(0, TRAIN), batch_size=48, shuffle=True),
        val=DataLoader(data(TRAIN, 1797), batch_size=100),
        compute_loss=compute_loss,
        optimizer=optimizer or torch.optim.Adam(model.parameters(), lr=1e-3),
        epochs=6,
        **rest,
    )


def build():
    return make()


# faults


def seeded_in_getitem():
    return make(data=functools.partial(Triplets, frozen=True))


def root_of_zero():
    """Now and then an anchor is its own partner."""

    def loss(model, batch):
        anchor, positive, negative = (model(x) for x in batch)
        near, far = ((anchor - positive) ** 2).sum(1).sqrt(), ((anchor - negative) ** 2).sum(1).sqrt()
        return F.relu(near - far + 0.5).mean()

    return make(compute_loss=loss, data=functools.partial(Triplets, itself=True))


def normalised_over_the_batch():
    class Columns(Embedder):
        def forward(self, x):
            return F.normalize(self.out(self.conv(x).flatten(1)), dim=0) * 5

    return make(model=Columns())


def vectors_collected_in_numpy():
    def loss(model, batch):
        vectors = [torch.tensor(model(x).tolist(), requires_grad=True) for x in batch]
        return F.triplet_margin_loss(*vectors, margin=0.5)

    return make(compute_loss=loss)


def new_projection_every_time():
    class Projected(Embedder):
        def forward(self, x):
            h = self.conv(x).flatten(1)
            return F.normalize(nn.Linear(h.shape[1], 16)(h), dim=1)

    return make(model=Projected())


def near_and_far_exchanged():
    def loss(model, batch):
        anchor, positive, negative = (model(x) for x in batch)
        near, far = F.pairwise_distance(anchor, positive), F.pairwise_distance(anchor, negative)
        return -F.relu(near - far + 0.5).mean()

    return make(compute_loss=loss)


def projector_left_out():
    class Projector(Embedder):
        def __init__(self):
            super().__init__(32)
            self.projector = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 16))

    return make(model=Projector())


def optimiser_of_the_copy():
    model = Embedder()
    best = copy.deepcopy(model)
    return make(model=model, optimizer=torch.optim.Adam(best.parameters(), lr=1e-3))


def loss_of_each():
    def loss(model, batch):
        anchor, positive, negative = (model(x) for x in batch)
        return F.triplet_margin_loss(anchor, positive, negative, margin=0.5, reduction="none")

    return make(compute_loss=loss)


# healthy


def in_batch_negatives():
    """InfoNCE: every other picture of the batch is a negative."""

    def loss(model, batch):
        a, b = model(batch[0]), model(batch[1])
        return F.cross_entropy(a @ b.T / 0.2, torch.arange(len(a)))

    return make(compute_loss=loss)


class Labelled(Dataset):
    def __init__(self, begin, end):
        self.images, self.labels = (column[begin:end] for column in digits())

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return self.images[i], self.labels[i]


def hardest_of_the_batch():
    def loss(output, target):
        distance = torch.cdist(output, output)
        same = target[:, None] == target[None]
        far = distance.masked_fill(~same, 0).max(1).values
        near = distance.masked_fill(same, 9).min(1).values
        return F.softplus(far - near).mean()

    pipeline = make(data=Labelled, compute_loss=None)
    pipeline.loss = loss
    return pipeline


def pairs_with_signs():
    class Signed(Triplets):
        def __getitem__(self, i):
            anchor, positive, negative = super().__getitem__(i)
            sign = 1 if i % 2 else -1
            return anchor, positive if sign > 0 else negative, torch.tensor(sign)

    def loss(model, batch):
        return F.cosine_embedding_loss(model(batch[0]), model(batch[1]), batch[2], margin=0.3)

    return make(data=Signed, compute_loss=loss)


class WithMomentum(nn.Module):
    """A slow copy, moved after every step, looks at the partners."""

    def __init__(self):
        super().__init__()
        self.fast = Embedder()
        self.slow = copy.deepcopy(self.fast).requires_grad_(False)

    @torch.no_grad()
    def follow(self):
        for slow, fast in zip(self.slow.parameters(), self.fast.parameters(), strict=True):
            slow.lerp_(fast, 0.05)

    def forward(self, x):
        return self.fast(x)


def momentum_encoder():
    def step(model, batch, optimizer):
        anchor = model(batch[0])
        with torch.no_grad():
            positive, negative = model.slow(batch[1]), model.slow(batch[2])
        loss = F.triplet_margin_loss(anchor, positive, negative, margin=0.5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.follow()
        return loss

    model = WithMomentum()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    return make(model=model, train_step=step, optimizer=optimizer)


def fixed_triplets():
    """Drawn once and kept, as from a file; pictures occur in several triplets."""

    def kept(begin, end):
        drawn = Triplets(begin, end)
        np.random.seed(1)
        return TensorDataset(*(torch.stack(c) for c in zip(*(drawn[i] for i in range(len(drawn))), strict=True)))

    return make(data=kept)


CASES = cases(
    build,
    {
        seeded_in_getitem: "repeated-samples",
        root_of_zero: ("unstable-log", "nonfinite-gradient"),
        normalised_over_the_batch: ("batch-mixing", "softmax-over-batch"),
        vectors_collected_in_numpy: ("loss-detached", "graph-cut"),
        new_projection_every_time: "layer-created-in-forward",
        near_and_far_exchanged: "loss-sign-flipped",
        projector_left_out: "unused-parameters",
        optimiser_of_the_copy: ("stale-optimizer-parameters", "parameters-missing-from-optimizer"),
        loss_of_each: "loss-not-scalar",
    },
    [in_batch_negatives, hardest_of_the_batch, pairs_with_signs, momentum_encoder, fixed_triplets],
    structural=[normalised_over_the_batch, projector_left_out],
)
