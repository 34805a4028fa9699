"""Faults in the pictures of signs: files, folders, transforms and splits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Subset

from zoo.cases import Case, faulty
from zoo.programs.glyphs import (
    HEIGHT,
    KINDS,
    MEAN,
    STD,
    WIDTH,
    Array,
    File,
    Folder,
    ResNet,
    build,
    files,
    jitter,
    normalise,
    to_tensor,
    train_transform,
    val_transform,
)


def both(transform: Callable[[Array], Tensor]) -> dict[str, Any]:
    """Both splits with the same transform."""
    return {"train": lambda files: Folder(files, transform), "val": lambda files: Folder(files, transform)}


def rows_last(picture: Array) -> Tensor:
    """Leaves the channels where they are."""
    image = torch.from_numpy(picture).float() / 255
    return (image - torch.tensor(MEAN)) / torch.tensor(STD)


def reshaped(picture: Array) -> Tensor:
    """Channels first by a view."""
    return normalise(torch.from_numpy(picture).view(3, HEIGHT, WIDTH).float() / 255)


def as_bytes(picture: Array) -> Tensor:
    return torch.from_numpy(picture).permute(2, 0, 1).contiguous()


def by_double(picture: Array) -> Tensor:
    """NumPy all the way, in double."""
    image = (picture / 255 - np.array(MEAN)) / np.array(STD)
    return torch.from_numpy(image.transpose(2, 0, 1))


def balanced(picture: Array) -> Tensor:
    """Brings the darkest point of each colour to the same level."""
    image = to_tensor(picture)
    return (image / image.amin(dim=(1, 2), keepdim=True)).log()


def emptied(picture: Array) -> Tensor:
    """Casts to bytes after scaling."""
    return normalise(to_tensor((picture / 256).astype(np.uint8)))


def twice(picture: Array) -> Tensor:
    """Scaled to 0..1 and normalised, and the whole once more."""
    return normalise(normalise(to_tensor(picture)) / 255)


def of_bytes(picture: Array) -> Tensor:
    """Statistics of bytes for pictures from 0 to 1."""
    image = to_tensor(picture)
    mean, std = torch.tensor(MEAN) * 255, torch.tensor(STD) * 255
    return (image - mean.view(3, 1, 1)) / std.view(3, 1, 1)


def unscaled(picture: Array) -> Tensor:
    """Validation without the normalisation."""
    return to_tensor(picture) * 255


def turned(picture: Array) -> Tensor:
    """Validation reads the columns first."""
    return val_transform(picture.reshape(WIDTH, HEIGHT, 3).transpose(1, 0, 2).copy())


def wild(picture: Array) -> Tensor:
    """A small crop from anywhere, scaled up, and much noise."""
    image = to_tensor(picture)
    y, x = int(torch.randint(0, HEIGHT - 7, (1,))), int(torch.randint(0, WIDTH - 7, (1,)))
    crop = F.interpolate(image[None, :, y : y + 7, x : x + 7], (HEIGHT, WIDTH), mode="bilinear")[0]
    return normalise(crop + 0.5 * torch.randn_like(crop))


class Cut(Folder):
    """One file was not written to its end."""

    def __init__(self, files: Sequence[File], transform: Callable[[Array], Tensor]) -> None:
        super().__init__(files, transform)
        self.files[777] = self.files[777]._replace(content=self.files[777].content[:901])


class Numbered(Folder):
    """Takes the class from the folder's number, counted from one."""

    def __init__(self, files: Sequence[File], transform: Callable[[Array], Tensor]) -> None:
        super().__init__(files, transform)
        self.targets = [int(file.folder.removeprefix("sign_")) + 1 for file in files]


class ByNumber(Folder):
    """Orders the folders by their number, not by their name."""

    def __init__(self, files: Sequence[File], transform: Callable[[Array], Tensor]) -> None:
        super().__init__(files, transform)
        self.classes = sorted(self.classes, key=lambda name: int(name.removeprefix("sign_")))
        self.targets = [self.classes.index(file.folder) for file in files]


class Reordered(Folder):
    """Shuffles the list of the files, after the targets were read."""

    def __init__(self, files: Sequence[File], transform: Callable[[Array], Tensor]) -> None:
        super().__init__(files, transform)
        order = torch.randperm(len(self.files), generator=torch.Generator().manual_seed(3)).tolist()
        self.files = [self.files[i] for i in order]


class Cached(Folder):
    """Keeps what was loaded, under the name of its folder."""

    def __init__(self, files: Sequence[File], transform: Callable[[Array], Tensor]) -> None:
        super().__init__(files, transform)
        self.kept: dict[str, Array] = {}

    def load(self, file: File) -> Array:
        return self.kept.setdefault(file.folder, super().load(file))


class Latest(Folder):
    """Reads the file that the loop ended with."""

    def __init__(self, files: Sequence[File], transform: Callable[[Array], Tensor]) -> None:
        super().__init__(files, transform)
        for file in self.files:
            self.file = file

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.load(self.file)), self.targets[index]


class Seeded(Folder):
    """Draws its noise from a generator of its own, which every worker copies."""

    def __init__(self, files: Sequence[File], transform: Callable[[Array], Tensor]) -> None:
        super().__init__(files, transform)
        self.rng = np.random.default_rng(42)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, target = super().__getitem__(index)
        dy, dx = (int(v) for v in self.rng.integers(-1, 2, 2))
        noise = torch.from_numpy(self.rng.normal(0, 0.2, image.shape)).float()
        return image.roll((dy, dx), (1, 2)) + noise, target


class Floats(Folder):
    """Targets as a column of a table of floats."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, target = super().__getitem__(index)
        return image, torch.tensor(target, dtype=torch.float32)  # type: ignore[return-value]


class Marked(Folder):
    """Writes the target into the first row, as the tool for labelling did."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, target = super().__getitem__(index)
        image[:, 0, target] = 3.0
        return image, target


def first_half(files: Sequence[File]) -> Folder:
    """Stops after 600 files, of twelve hundred sorted by folder."""
    full = Folder(files, train_transform)
    full.files, full.targets = full.files[:600], full.targets[:600]
    return full


def from_training(_: Sequence[File]) -> Folder:
    """Validation lists the training folder as well."""
    return Folder([*files("val"), *files("train")[::4]], val_transform)


def of_one_folder(_: Sequence[File]) -> Subset[tuple[Tensor, int]]:
    """A random split's second half: it shares the augmented data set."""
    whole = Folder(files("val"), lambda picture: normalise(jitter(jitter(to_tensor(picture)))))
    return Subset(whole, torch.randperm(len(whole), generator=torch.Generator().manual_seed(0)).tolist())


CASES: tuple[Case, ...] = (
    faulty(build, "channels-last-input", also=("forward-shape-mismatch",), **both(rows_last)),
    faulty(build, "scrambled-image-layout", structural=True, **both(reshaped)),
    faulty(build, "input-dtype-mismatch", variant="bytes", **both(as_bytes)),
    faulty(build, "input-dtype-mismatch", variant="double", **both(by_double)),
    faulty(build, "nonfinite-inputs", **both(balanced)),
    faulty(build, "constant-inputs", **both(emptied)),
    faulty(build, "inputs-normalised-twice", **both(twice)),
    faulty(build, "wrong-normalisation-statistics", **both(of_bytes)),
    faulty(build, "train-val-preprocessing-mismatch", variant="scale", val=lambda files: Folder(files, unscaled)),
    faulty(build, "train-val-preprocessing-mismatch", variant="layout", val=lambda files: Folder(files, turned)),
    faulty(build, "augmentation-too-strong", train=lambda files: Folder(files, wild)),
    faulty(build, "augmentation-on-validation", structural=True, val=of_one_folder),
    faulty(build, "unreadable-sample", train=lambda files: Cut(files, train_transform)),
    faulty(
        build,
        "labels-out-of-range",
        train=lambda files: Numbered(files, train_transform),
        val=lambda files: Numbered(files, val_transform),
    ),
    faulty(build, "label-map-differs-in-validation", val=lambda files: ByNumber(files, val_transform)),
    faulty(build, "labels-unrelated-to-inputs", train=lambda files: Reordered(files, train_transform)),
    faulty(
        build,
        "repeated-samples",
        variant="cache",
        also=("duplicate-samples",),
        train=lambda files: Cached(files, val_transform),
    ),
    faulty(
        build,
        "repeated-samples",
        variant="last",
        also=("constant-inputs",),
        train=lambda files: Latest(files, val_transform),
    ),
    faulty(
        build,
        "duplicate-worker-randomness",
        structural=True,
        train=lambda files: Seeded(files, val_transform),
        loader={"num_workers": 2},
    ),
    faulty(build, "label-dtype-mismatch", train=lambda files: Floats(files, train_transform)),
    faulty(
        build,
        "target-leaked-into-input",
        structural=True,
        train=lambda files: Marked(files, train_transform),
        val=lambda files: Marked(files, val_transform),
    ),
    faulty(build, "missing-classes", also=("incomplete-dataset",), train=first_half),
    faulty(build, "train-val-leakage", structural=True, val=from_training),
    faulty(build, "unshuffled-training-data", loader={"shuffle": False}),
    faulty(build, "empty-loader", loader={"batch_size": 2048, "drop_last": True}),
    faulty(build, "num-classes-mismatch", model=lambda: ResNet(classes=KINDS - 1)),
)
