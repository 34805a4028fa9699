"""Faults in the data, the model and the loss of ``digits_plain``."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from zoo.cases import Case, faulty
from zoo.programs.digits_plain import MEAN, STD, Array, Digits, Net, build, splits, to_tensor


def log_scaled(image: Array) -> Tensor:
    """The logarithm of pixels that are zero."""
    return torch.log(to_tensor(image))


def as_bytes(image: Array) -> Tensor:
    """Integer division leaves nothing of 4-bit images."""
    pixels = image.astype(np.uint8) // 255
    return torch.from_numpy(pixels).float().unsqueeze(0)


class CachedDigits(Digits):
    """Keeps the first image it read and returns it ever after."""

    image: Tensor | None = None

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        if self.image is None:
            self.image = self.transform(self.images[index])
        return self.image, int(self.labels[index])


class DebugDigits(Digits):
    """A limit of a debugging day is left in."""

    limit = 16

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return super().__getitem__(index % self.limit)


class Scaled(Digits):
    """Scales to 0..1 what the transform scales again."""

    def __init__(self, images: Array, labels: Array, transform: Any) -> None:
        super().__init__(images / 16.0, labels, transform)


def with_byte_statistics(image: Array) -> Tensor:
    """Mean and std of 0-255 images, on images from 0 to 1."""
    return (to_tensor(image) - 77.8) / 95.9


def channels_last(image: Array) -> Tensor:
    return (torch.from_numpy(image / 16.0).float().unsqueeze(-1) - MEAN) / STD


def in_doubles(image: Array) -> Tensor:
    return (torch.from_numpy(image / 16.0).unsqueeze(0) - MEAN) / STD


class WiderPool(Net):
    """The pooling was changed, the first linear layer was not."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2, stride=1)


def first_folders(images: Array, labels: Array) -> Any:
    """Only the folders of the first six classes were unpacked."""
    found = np.isin(labels, [int(name) for name in "012345"])
    images, labels = images[found], labels[found]
    return (images[:750], labels[:750]), (images[750:1050], labels[750:1050])


class EncodedDigits(Digits):
    """Reads files of bytes, of which one is cut short."""

    def __init__(self, images: Array, labels: Array, transform: Any) -> None:
        super().__init__(images, labels, transform)
        self.files = [image.astype(np.uint8).tobytes() for image in images]
        self.files[171] = self.files[171][:40]

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image = np.frombuffer(self.files[index], dtype=np.uint8).reshape(8, 8)
        return self.transform(image), int(self.labels[index])


class CountedFromOne(Digits):
    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.transform(self.images[index]), int(self.labels[index]) + 1


class FloatLabels(Digits):
    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.transform(self.images[index]), torch.tensor(float(self.labels[index]))


class LabelFromFolder(Digits):
    """Takes the class from the wrong part of the path, which is the same for all."""

    def __init__(self, images: Array, labels: Array, transform: Any) -> None:
        super().__init__(images, labels, transform)
        self.paths = [f"digits/{label}/{i:05d}.png" for i, label in enumerate(labels)]

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        folder = self.paths[index].split("/")[0]
        return self.transform(self.images[index]), ["digits", *self.classes].index(folder)


class FiveClasses(Net):
    def __init__(self) -> None:
        super().__init__()
        self.fc2 = nn.Linear(32, 5)


def without_eights(images: Array, labels: Array) -> Any:
    (x, y), val = splits(images, labels)
    return (x[y != 8], y[y != 8]), val


class InOrder(Digits):
    """Files in the order of a listing: one class after the other."""

    def __init__(self, images: Array, labels: Array, transform: Any) -> None:
        order = np.argsort(labels, kind="stable")
        super().__init__(images[order], labels[order], transform)


def two_permutations(images: Array, labels: Array) -> Any:
    """Each split draws a permutation of its own."""
    train = np.random.default_rng(0).permutation(len(images))[:1000]
    val = np.random.default_rng(1).permutation(len(images))[:400]
    return (images[train], labels[train]), (images[val], labels[val])


class WithMarker(Digits):
    """A debugging aid: the class is written into a corner."""

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image = self.images[index].copy()
        image[0, 0] = self.labels[index]
        return self.transform(image), int(self.labels[index])


def images_shuffled(images: Array, labels: Array) -> Any:
    """Shuffles the images and leaves the labels behind."""
    (x, y), val = splits(images, labels)
    return (np.random.default_rng(4).permutation(x), y), val


def careless_annotators(images: Array, labels: Array) -> Any:
    (x, y), val = splits(images, labels)
    rng = np.random.default_rng(8)
    wrong = rng.random(len(y)) < 0.5
    return (x, np.where(wrong, rng.integers(0, 10, len(y)), y)), val


class NamedClasses(Digits):
    """Sorts the classes by name, whereas the training set has them by number."""

    names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        to_index = {name: i for i, name in enumerate(sorted(self.names))}
        return self.transform(self.images[index]), to_index[self.names[int(self.labels[index])]]


def small_sample(images: Array, labels: Array) -> Any:
    (x, y), val = splits(images, labels)
    return (x[:64], y[:64]), val


class RemoteDigits(Digits):
    """Every image comes over a slow network share."""

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        time.sleep(0.0015)
        return super().__getitem__(index)


def half_written(image: Array) -> Tensor:
    return to_tensor(image)[:, 4:] - MEAN


CASES: tuple[Case, ...] = (
    faulty(build, "nonfinite-inputs", transform=log_scaled),
    faulty(build, "constant-inputs", transform=as_bytes),
    faulty(build, "repeated-samples", variant="first-image", also=("constant-inputs",), dataset=CachedDigits),
    faulty(
        build, "repeated-samples", variant="limit", also=("duplicate-samples", "too-few-samples"), dataset=DebugDigits
    ),
    # Scaled after normalising: the same numbers as with statistics of another scale.
    faulty(
        build, "inputs-normalised-twice", also=("wrong-normalisation-statistics",), dataset=Scaled, val_dataset=Scaled
    ),
    faulty(build, "wrong-normalisation-statistics", transform=with_byte_statistics),
    faulty(build, "train-val-preprocessing-mismatch", val_transform=with_byte_statistics),
    faulty(build, "channels-last-input", also=("forward-shape-mismatch",), transform=channels_last),
    faulty(build, "input-dtype-mismatch", transform=in_doubles),
    faulty(build, "forward-shape-mismatch", model=WiderPool),
    faulty(build, "forward-shape-mismatch", variant="cropped", transform=half_written),
    faulty(
        build,
        "incomplete-dataset",
        structural=True,
        also=("missing-classes", "num-classes-mismatch"),
        split=first_folders,
    ),
    faulty(build, "unreadable-sample", dataset=EncodedDigits),
    faulty(build, "empty-loader", batch_size=1024, drop_last=True),
    faulty(build, "labels-out-of-range", dataset=CountedFromOne, val_dataset=CountedFromOne),
    faulty(build, "label-dtype-mismatch", dataset=FloatLabels, val_dataset=FloatLabels),
    faulty(build, "constant-labels", structural=True, dataset=LabelFromFolder, val_dataset=LabelFromFolder),
    faulty(build, "num-classes-mismatch", also=("labels-out-of-range",), model=FiveClasses),
    faulty(build, "missing-classes", split=without_eights),
    faulty(build, "unshuffled-training-data", dataset=InOrder, shuffle=False),
    faulty(build, "train-val-leakage", structural=True, split=two_permutations),
    faulty(build, "target-leaked-into-input", structural=True, dataset=WithMarker, val_dataset=WithMarker),
    faulty(build, "labels-unrelated-to-inputs", split=images_shuffled),
    faulty(build, "noisy-labels", split=careless_annotators),
    faulty(build, "label-map-differs-in-validation", val_dataset=NamedClasses),
    faulty(build, "too-few-samples", split=small_sample, epochs=190),
    faulty(build, "slow-dataloader", structural=True, dataset=RemoteDigits),
    faulty(build, "batch-size-extreme", variant="full", batch_size=1000),
)
