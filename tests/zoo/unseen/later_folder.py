"""Textures in folders of PNG files, one folder per class, read by ImageFolder: a small BatchNorm CNN and StepLR."""

from __future__ import annotations

import functools
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset, random_split
from torchvision import transforms as T
from torchvision.datasets import ImageFolder

from diagnose import Pipeline
from zoo.cases import cases

KINDS = ["bricks", "dots", "stripes", "waves"]
MEAN, STD = [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]
SIZE = 24


def texture(kind, rng):
    row, column = np.mgrid[0:SIZE, 0:SIZE].astype(float)
    phase, period = rng.uniform(0, 6, 2), rng.uniform(4, 6)
    a, b = np.sin(2 * np.pi * row / period + phase[0]), np.sin(2 * np.pi * column / period + phase[1])
    plane = {
        "bricks": np.sign(a * b),
        "dots": ((a > 0.4) & (b > 0.4)) * 2.0 - 1,
        "stripes": np.sign(b),
        "waves": np.sin(2 * np.pi * row / period + np.sin(column / 3) + phase[0]),
    }[kind]
    colour = rng.uniform(0.15, 0.3, 3) * rng.choice([-1, 1])
    picture = 0.5 + plane[..., None] * colour + rng.normal(0, 0.12, (SIZE, SIZE, 3))
    return Image.fromarray((picture.clip(0, 1) * 255).astype(np.uint8))


@functools.lru_cache
def root():
    folder = tempfile.TemporaryDirectory(prefix="textures")
    rng = np.random.default_rng(2)
    for split, count in (("train", 160), ("val", 50)):
        for kind in KINDS:
            place = Path(folder.name, split, kind)
            place.mkdir(parents=True)
            for i in range(count):
                texture(kind, rng).save(place / f"{i:03}.png")
    return folder  # kept, or it is removed


@functools.lru_cache
def copied(change):
    """The folder with something done to it, as happens to folders."""
    place = Path(tempfile.mkdtemp(dir=root().name, prefix="copy")) / "data"
    for split in ("train", "val"):
        shutil.copytree(Path(root().name, split), place / split)
    change(place)
    return place


def preprocess(augment=False, mean=MEAN, std=STD, more=()):
    steps = [T.RandomHorizontalFlip(), T.RandomCrop(SIZE, padding=2)] if augment else []
    return T.Compose([*steps, *more, T.ToTensor(), T.Normalize(mean, std)])


def block(a, b):
    return nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU())


class Net(nn.Module):
    def __init__(self, classes=4):
        super().__init__()
        self.features = nn.Sequential(block(3, 16), nn.MaxPool2d(2), block(16, 32), nn.MaxPool2d(2))
        self.classifier = nn.Linear(32, classes)

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


def make(
    model=None, where=None, train=None, val=None, loss=None, parameters=None, train_tf=None, val_tf=None, **loader
):
    model = model or Net()
    place = Path(where or root().name)
    train = train or ImageFolder(place / "train", train_tf or preprocess(augment=True))
    val = val or ImageFolder(place / "val", val_tf or preprocess())
    optimizer = torch.optim.SGD((parameters or nn.Module.parameters)(model), lr=0.05, momentum=0.9, weight_decay=5e-4)
    return Pipeline(
        model=model,
        train=DataLoader(train, **({"batch_size": 32, "shuffle": True} | loader)),
        val=DataLoader(val, batch_size=50),
        loss=loss or nn.CrossEntropyLoss(),
        optimizer=optimizer,
        scheduler=torch.optim.lr_scheduler.StepLR(optimizer, 5, 0.3),
        epochs=10,
    )


def build():
    return make()


# faults


def rename(place):
    (place / "val" / "waves").rename(place / "val" / "a_waves")


def val_folder_renamed():
    return make(where=copied(rename))


def statistics_of_bytes():
    tf = [preprocess(augment, [127.5] * 3, [64.0] * 3) for augment in (True, False)]
    return make(train_tf=tf[0], val_tf=tf[1])


def normalised_in_model_too():
    class Standard(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = Net()

        def forward(self, x):
            mean, std = x.new_tensor([123.7, 116.3, 103.5]), x.new_tensor([58.4, 57.1, 57.4])
            return self.net((x - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1))

    return make(model=Standard())


def val_not_normalised():
    return make(val_tf=T.ToTensor())


def split_after_augmenting():
    everything = ImageFolder(Path(root().name, "train"), preprocess(augment=True, more=(T.ColorJitter(0.4, 0.4),)))
    train, val = random_split(everything, [520, 120], torch.Generator().manual_seed(0))
    return make(train=train, val=val)


def two_draws_of_the_split():
    def part(size, first, seed, augment):
        everything = ImageFolder(Path(root().name, "train"), preprocess(augment))
        order = np.random.default_rng(seed).permutation(len(everything))
        return Subset(everything, order[:size] if first else order[-size:])

    return make(train=part(512, True, 1, False), val=part(128, False, 2, False))


def folders_in_order():
    return make(shuffle=False)


def cut(place):
    victim = sorted((place / "train" / "dots").iterdir())[7]
    victim.write_bytes(victim.read_bytes()[:60])


def broken_file():
    return make(where=copied(cut))


def only_convolutions_optimised():
    return make(
        parameters=lambda model: [p for m in model.modules() if isinstance(m, nn.Conv2d) for p in m.parameters()]
    )


def head_one_short():
    return make(model=Net(classes=3))


def bytes_beside_floats():
    def raw(picture):
        return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)

    return make(train_tf=raw, val_tf=raw)


# healthy


def log_probabilities_too():
    class Log(Net):
        def forward(self, x):
            return super().forward(x).log_softmax(1)

    return make(model=Log())


def bytes_normalised_in_model():
    class Bytes(Net):
        def forward(self, x):
            return super().forward((x.float() / 255 - 0.5) / 0.25)

    tf = T.PILToTensor()
    return make(model=Bytes(), train_tf=T.Compose([T.RandomHorizontalFlip(), tf]), val_tf=tf)


def thin(place):
    for kind, keep in (("dots", 30), ("waves", 60)):
        for path in sorted((place / "train" / kind).iterdir())[keep:]:
            path.unlink()


def imbalanced_folder_weighted():
    weight = torch.tensor([1.0, 160 / 30, 1.0, 160 / 60])
    return make(where=copied(thin), loss=nn.CrossEntropyLoss(weight=weight))


def two_views_of_one_folder():
    order = np.random.default_rng(1).permutation(640)
    folder = Path(root().name, "train")
    train, val = ImageFolder(folder, preprocess(True)), ImageFolder(folder, preprocess())
    return make(train=Subset(train, order[:512]), val=Subset(val, order[512:]))


def grey_in_three_channels():
    grey = (T.Grayscale(3),)
    return make(train_tf=preprocess(True, more=grey), val_tf=preprocess(more=grey))


def focal():
    def loss(output, target):
        each = F.cross_entropy(output, target, reduction="none")
        return ((1 - torch.exp(-each)) ** 2 * each).mean()

    return make(loss=loss)


def squeezenet_head():
    class Full(Net):
        def __init__(self):
            super().__init__()
            self.classifier = nn.Sequential(nn.Conv2d(32, 4, 1), nn.ReLU())

        def forward(self, x):
            return self.classifier(self.features(x)).mean((2, 3))

    return make(model=Full())


def every_picture_four_times():
    class Repeated(Dataset):
        """Repeated augmentation: a long epoch, each time with another crop."""

        def __init__(self):
            self.folder = ImageFolder(Path(root().name, "train"), preprocess(True))

        def __len__(self):
            return 4 * len(self.folder)

        def __getitem__(self, i):
            return self.folder[i % len(self.folder)]

    return make(train=Repeated())


CASES = cases(
    build,
    {
        val_folder_renamed: "label-map-differs-in-validation",
        statistics_of_bytes: "wrong-normalisation-statistics",
        normalised_in_model_too: ("inputs-normalised-twice", "wrong-normalisation-statistics"),
        val_not_normalised: "train-val-preprocessing-mismatch",
        split_after_augmenting: "augmentation-on-validation",
        two_draws_of_the_split: "train-val-leakage",
        folders_in_order: "unshuffled-training-data",
        broken_file: "unreadable-sample",
        only_convolutions_optimised: "parameters-missing-from-optimizer",
        head_one_short: ("num-classes-mismatch", "labels-out-of-range", "output-shape-mismatch"),
        bytes_beside_floats: "input-dtype-mismatch",
    },
    [
        log_probabilities_too, bytes_normalised_in_model, imbalanced_folder_weighted, two_views_of_one_folder,
        grey_in_three_channels, focal, every_picture_four_times, squeezenet_head,
    ],
    structural=[statistics_of_bytes, normalised_in_model_too, split_after_augmenting, two_draws_of_the_split],
)  # fmt: skip
