"""Faults in the data of ``digits_batchnorm``."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Subset, random_split

from zoo.cases import Case, faulty
from zoo.programs.digits_batchnorm import (
    Array,
    Compose,
    ConvNet,
    ImageSet,
    Normalise,
    build,
    make_sets,
    random_shift,
    to_tensor,
)


def as_view(image: Array) -> Tensor:
    """Views rows, columns, channels as channels, rows, columns."""
    return torch.from_numpy(np.ascontiguousarray(image)).view(3, 8, 8).float() / 255


def scrambled() -> Compose:
    return Compose(random_shift, as_view, Normalise())


def scrambled_plain() -> Compose:
    return Compose(as_view, Normalise())


def not_normalised() -> Compose:
    """The validation transform makes tensors and no more: no scaling, no normalisation."""
    return Compose(lambda image: torch.from_numpy(image).permute(2, 0, 1).float())


def twice() -> Compose:
    """The scaled tensor is scaled once more."""
    return Compose(random_shift, to_tensor, lambda image: image / 255, Normalise())


def twice_plain() -> Compose:
    return Compose(to_tensor, lambda image: image / 255, Normalise())


def shared_set(images: Array, labels: Array, train: Any, val: Any) -> tuple[Any, Any]:
    """Splits one data set, augmented, for both uses."""
    parts = random_split(
        ImageSet(images[:1361], labels[:1361], train), [961, 400], generator=torch.Generator().manual_seed(0)
    )
    return parts[0], parts[1]


def augmented_twin(images: Array, labels: Array, train: Any, val: Any) -> tuple[Any, Any]:
    """Doubles the data before the split, so that each image has a twin that may lie on the other side."""
    images, labels = np.concatenate([images, images]), np.concatenate([labels, labels])
    order = np.random.default_rng(2).permutation(len(labels))
    train_part, val_part = order[:961], order[1200:1600]
    return ImageSet(images[train_part], labels[train_part], train), ImageSet(images[val_part], labels[val_part], val)


def doubled(images: Array, labels: Array, train: Any, val: Any) -> tuple[Any, Any]:
    """Two overlapping exports were joined: a third of the training images is there three times."""
    train_set, val_set = make_sets(images, labels, train, val)
    rows = np.concatenate([np.arange(480), np.arange(240), np.arange(241)])
    return ImageSet(images[rows], labels[rows], train_set.transform), val_set


def mostly_ones(images: Array, labels: Array, train: Any, val: Any) -> tuple[Any, Any]:
    """Two classes are complete; the others have four images each."""
    train_set, val_set = make_sets(images, labels, train, val)
    rows = [row for digit in range(10) for row in np.flatnonzero(labels[:961] == digit)[: 4 if digit > 1 else None]]
    return Subset(train_set, [int(row) for row in rows]), val_set


def by_class(images: Array, labels: Array, train: Any, val: Any) -> tuple[Any, Any]:
    order = np.argsort(labels[:961], kind="stable")
    return ImageSet(images[order], labels[order], train), make_sets(images, labels, train, val)[1]


def split_threes(images: Array, labels: Array, train: Any, val: Any) -> tuple[Any, Any]:
    """Half of the threes and of the fives are filed under a class of their own, by date."""
    labels = labels.copy()
    for old, new in ((3, 10), (5, 11)):
        labels[np.flatnonzero(labels == old)[::2]] = new
    return make_sets(images, labels, train, val)


class TwelveClasses(ConvNet):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self.head = nn.Linear(32, 12)


def background_class(images: Array, labels: Array, train: Any, val: Any) -> tuple[Any, Any]:
    """Unreadable digits are marked -1."""
    labels = labels.copy()
    labels[50::90] = -1
    return make_sets(images, labels, train, val)


class NumpyShift(ImageSet):
    """Augments with numpy's global generator."""

    def __getitem__(self, index: int) -> tuple[Any, int]:
        noise = np.random.normal(0, 12, self.images[index].shape)
        image = np.clip(self.images[index] + noise, 0, 255).astype(np.uint8)
        return self.transform(image), int(self.labels[index])


def numpy_sets(images: Array, labels: Array, train: Any, val: Any) -> tuple[Any, Any]:
    return NumpyShift(images[:961], labels[:961], train), ImageSet(images[1200:1600], labels[1200:1600], val)


def seed_worker(worker: int) -> None:
    np.random.seed(42)


def heavy_noise(image: Tensor) -> Tensor:
    return image + 1.2 * torch.randn_like(image)


def random_erase(image: Tensor) -> Tensor:
    """Blanks a 6x6 square."""
    y, x = (int(v) for v in torch.randint(0, 3, (2,)))
    image = image.clone()
    image[:, y : y + 6, x : x + 6] = 0
    return image


def strong_augmentation() -> Compose:
    return Compose(random_shift, to_tensor, random_erase, heavy_noise, Normalise())


def any_side_up(image: Array) -> Array:
    """Quarter turns and flips, as for aerial photographs."""
    image = np.rot90(image, int(torch.randint(0, 4, (1,))))
    return image[:, ::-1] if torch.rand(()) < 0.5 else image


def turned() -> Compose:
    return Compose(any_side_up, random_shift, to_tensor, Normalise())


def upside_down(image: Array) -> Array:
    """Half turns, which make a six of a nine."""
    return image[::-1, ::-1] if torch.rand(()) < 0.5 else image


def half_turned() -> Compose:
    return Compose(upside_down, random_shift, to_tensor, Normalise())


CASES: tuple[Case, ...] = (
    faulty(build, "scrambled-image-layout", train_tf=scrambled, val_tf=scrambled_plain),
    faulty(build, "train-val-preprocessing-mismatch", val_tf=not_normalised),
    # (x / 255 - m) / s and (x - 255 m) / (255 s) are the same numbers, so either name is right.
    faulty(
        build,
        "inputs-normalised-twice",
        also=("wrong-normalisation-statistics",),
        train_tf=twice,
        val_tf=twice_plain,
    ),
    faulty(
        build,
        "train-val-preprocessing-mismatch",
        variant="scaled-twice",
        also=("inputs-normalised-twice",),
        train_tf=twice,
    ),
    faulty(build, "augmentation-on-validation", structural=True, sets=shared_set),
    faulty(build, "train-val-leakage", structural=True, sets=augmented_twin, also=("duplicate-samples",)),
    faulty(build, "duplicate-samples", structural=True, sets=doubled),
    faulty(build, "class-imbalance", sets=mostly_ones, config={"epochs": 75}),
    faulty(build, "unshuffled-training-data", sets=by_class, config={"shuffle": False}),
    faulty(build, "classes-overlap", sets=split_threes, model=TwelveClasses, num_classes=12),
    faulty(build, "labels-out-of-range", variant="minus-one", sets=background_class),
    faulty(
        build,
        "duplicate-worker-randomness",
        structural=True,
        sets=numpy_sets,
        worker_init_fn=seed_worker,
        config={"num_workers": 2},
    ),
    faulty(build, "augmentation-too-strong", train_tf=strong_augmentation),
    faulty(build, "label-destroying-augmentation", structural=True, variant="half-turns", train_tf=half_turned),
    faulty(build, "label-destroying-augmentation", variant="any-side", train_tf=turned),
)
