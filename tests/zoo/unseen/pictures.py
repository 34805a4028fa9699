"""Coloured shapes as bytes in memory, read like a folder of files, with transforms and a small ResNet."""

from __future__ import annotations

import functools
import io

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from diagnose import Pipeline
from zoo.cases import cases

CLASSES = ["bar", "cross", "disc", "frame", "ring", "square"]


def draw(kind, rng, high=24, wide=24):
    y, x = np.mgrid[:high, :wide]
    cy, cx, r = rng.uniform(9, high - 9), rng.uniform(9, wide - 9), rng.uniform(5, 8)
    d, m = np.hypot(y - cy, x - cx), np.maximum(abs(y - cy), abs(x - cx))
    mask = {
        "bar": (abs(y - cy) < 2) & (abs(x - cx) < r),
        "cross": ((abs(y - cy) < 1.6) | (abs(x - cx) < 1.6)) & (m < r),
        "disc": d < r,
        "frame": (m < r) & (m > r - 2),
        "ring": (d < r) & (d > r - 2),
        "square": m < r,
    }[kind]
    picture = rng.integers(20, 110, 3) + rng.normal(0, 12, (high, wide, 3))
    picture[mask] = rng.integers(140, 255, 3) + rng.normal(0, 12, (int(mask.sum()), 3))
    return picture.clip(0, 255).astype(np.uint8)


@functools.lru_cache
def folder(count, seed, high=24, wide=24):
    rng = np.random.default_rng(seed)
    files = []
    for i in range(count):
        kind = CLASSES[i * len(CLASSES) // count]
        data = io.BytesIO()
        Image.fromarray(draw(kind, rng, high, wide)).save(data, "PNG")
        files.append((data.getvalue(), kind))
    return files


MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def to_tensor(image):
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 255


def normalise(x, mean=MEAN, std=STD):
    return (x - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def jitter(x):
    if torch.rand(()) < 0.5:
        x = x.flip(-1)
    dy, dx = torch.randint(-2, 3, (2,)).tolist()
    return torch.roll(x, (dy, dx), (1, 2)) * (0.9 + 0.2 * torch.rand(()))


def plain(image):
    return normalise(to_tensor(image))


def augmented(image):
    return normalise(jitter(to_tensor(image)))


class Folder(Dataset):
    def __init__(self, files, transform=plain, classes=CLASSES):
        self.samples, self.transform, self.classes = files, transform, classes
        self.class_to_idx = {c: i for i, c in enumerate(classes)}

    def __len__(self):
        return len(self.samples)

    def load(self, i):
        return Image.open(io.BytesIO(self.samples[i][0])).convert("RGB")

    def __getitem__(self, i):
        return self.transform(self.load(i)), self.class_to_idx[self.samples[i][1]]


class Residual(nn.Module):
    def __init__(self, cin, cout, stride, norm=nn.BatchNorm2d):
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
        self.bn1, self.bn2 = norm(cout), norm(cout)
        self.short = nn.Identity() if stride == 1 and cin == cout else nn.Conv2d(cin, cout, 1, stride, bias=False)

    def forward(self, x):
        h = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.short(x) + self.bn2(self.conv2(h)))


class ResNet(nn.Module):
    def __init__(self, norm=nn.BatchNorm2d, classes=len(CLASSES)):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), norm(16), nn.ReLU())
        self.stages = nn.Sequential(Residual(16, 16, 2, norm), Residual(16, 32, 2, norm), Residual(32, 32, 1, norm))
        self.fc = nn.Linear(32, classes)

    def forward(self, x):
        return self.fc(self.stages(self.stem(x)).mean((2, 3)))


TRAIN, VAL = 1800, 360


def make(model=None, train=None, val=None, loss=None, optimizer=None, batch=32, workers=0, shuffle=True, **rest):
    model = model if model is not None else ResNet()
    return Pipeline(
        model=model,
        train=DataLoader(
            train or Folder(folder(TRAIN, 0), augmented), batch_size=batch, shuffle=shuffle, num_workers=workers
        ),
        val=DataLoader(val or Folder(folder(VAL, 1)), batch_size=60),
        loss=loss or nn.CrossEntropyLoss(),
        optimizer=optimizer(model)
        if optimizer
        else torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4),
        epochs=10,
        **rest,
    )


def both(transform, model=None, **rest):
    return make(model, train=Folder(folder(TRAIN, 0), transform), val=Folder(folder(VAL, 1), transform), **rest)


def base():
    return make()


# healthy


def label_smoothing():
    return make(loss=nn.CrossEntropyLoss(label_smoothing=0.1))


def mixed_up():
    def collate(rows):
        x = torch.stack([x for x, _ in rows])
        y = nn.functional.one_hot(torch.tensor([y for _, y in rows]), 6).float()
        share = float(np.random.beta(0.2, 0.2))
        order = torch.randperm(len(x))
        return share * x + (1 - share) * x[order], share * y + (1 - share) * y[order]

    pipeline = make()
    pipeline.train = DataLoader(Folder(folder(TRAIN, 0), augmented), batch_size=32, shuffle=True, collate_fn=collate)
    return pipeline


def bytes_normalised_in_the_model():
    class Model(ResNet):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1) * 255)
            self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1) * 255)

        def forward(self, x):
            return super().forward((x.float() - self.mean) / self.std)

    return both(lambda im: torch.from_numpy(np.asarray(im).copy()).permute(2, 0, 1), Model())


def moved_after_the_optimizer():
    model = ResNet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model.to("cpu")
    return make(model, optimizer=lambda m: optimizer)


def heavy_augmentation():
    def heavy(image):
        x = jitter(to_tensor(image))
        y0, x0 = torch.randint(0, 18, (2,)).tolist()
        x[:, y0 : y0 + 6, x0 : x0 + 6] = 0.5
        return normalise((x + 0.1 * torch.randn_like(x)).clamp(0, 1))

    return make(train=Folder(folder(TRAIN, 0), heavy))


def wide_pictures():
    return make(train=Folder(folder(TRAIN, 0, 24, 36), augmented), val=Folder(folder(VAL, 1, 24, 36)))


def stochastic_depth():
    class Drop(Residual):
        def forward(self, x):
            if self.training and torch.rand(()) < 0.2:
                return torch.relu(self.short(x))
            return super().forward(x)

    model = ResNet()
    model.stages = nn.Sequential(Drop(16, 16, 2), Drop(16, 32, 2), Drop(32, 32, 1))
    return make(model)


def last_gamma_zero():
    model = ResNet()
    for m in model.modules():
        if isinstance(m, Residual):
            nn.init.zeros_(m.bn2.weight)
    return make(model)


def group_norm_small_batches():
    return make(
        ResNet(norm=lambda c: nn.GroupNorm(4, c)),
        batch=4,
        optimizer=lambda m: torch.optim.Adam(m.parameters(), lr=1e-3),
    )


CASES = cases(
    base,
    {},
    (
        label_smoothing,
        mixed_up,
        bytes_normalised_in_the_model,
        moved_after_the_optimizer,
        heavy_augmentation,
        wide_pictures,
        stochastic_depth,
        last_gamma_zero,
        group_norm_small_batches,
    ),
)
