"""Faults of the pictures: how they are read, and what is made of them."""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import nn
from torch.utils.data import random_split

from zoo.cases import cases
from zoo.unseen.pictures import (
    CLASSES,
    TRAIN,
    VAL,
    Folder,
    ResNet,
    augmented,
    base,
    both,
    folder,
    make,
    normalise,
    plain,
    to_tensor,
)


def whole_number_division():
    return both(lambda im: torch.from_numpy(np.asarray(im) // 255).permute(2, 0, 1).float())


def cache_of_one():
    class Cached(Folder):
        kept = None

        def load(self, i):
            if self.kept is None:
                self.kept = super().load(i)
            return self.kept

    return make(train=Cached(folder(TRAIN, 0), augmented))


def divided_by_255_again():
    return both(lambda im: normalise(to_tensor(im) / 255), ResNet(norm=lambda c: nn.Identity()))


def statistics_of_bytes():
    return both(lambda im: normalise(to_tensor(im), (124.0, 116.0, 104.0), (58.0, 57.0, 57.0)))


def channels_come_last():
    return both(lambda im: torch.from_numpy(np.asarray(im).copy()).float() / 255)


def view_for_permute():
    return both(lambda im: normalise(torch.from_numpy(np.asarray(im).copy()).float().view(3, 24, 24) / 255))


def size_changed_in_the_loader():
    class Model(ResNet):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(32 * 16 * 16 // 16, 6)

        def forward(self, x):
            return self.fc(self.stages(self.stem(x)).flatten(1))

    return make(Model())


def first_thousand_files():
    return make(train=Folder(folder(TRAIN, 0)[:700], augmented))


def one_file_is_cut_short():
    files = list(folder(TRAIN, 0))
    files[1234] = (files[1234][0][:40], files[1234][1])
    return make(train=Folder(files, augmented))


def float_labels():
    class Floats(Folder):
        def __getitem__(self, i):
            x, y = super().__getitem__(i)
            return x, np.float32(y)

    return make(train=Floats(folder(TRAIN, 0), augmented), val=Floats(folder(VAL, 1)))


def validation_split_off_the_augmented():
    files = list(folder(TRAIN, 0))
    data = Folder(files, augmented)
    train, val = random_split(data, [1500, 300], torch.Generator().manual_seed(0))
    return make(train=train, val=val)


def generator_of_the_dataset():
    class Seeded(Folder):
        def __init__(self, *args):
            super().__init__(*args)
            self.rng = np.random.default_rng(0)

        def __getitem__(self, i):
            x, y = super().__getitem__(i)
            noise = torch.from_numpy(self.rng.normal(0, 0.3, x.shape).astype(np.float32))
            return x + noise, y

    return make(train=Seeded(folder(TRAIN, 0), plain), workers=2)


def classes_in_another_order():
    return make(val=Folder(folder(VAL, 1), classes=sorted(CLASSES, key=lambda c: c[::-1])))


def slow_files():
    class Slow(Folder):
        def load(self, i):
            time.sleep(0.01)
            return super().load(i)

    return make(train=Slow(folder(TRAIN, 0), augmented))


def in_order_of_the_folders():
    return make(shuffle=False)


def softmax_at_the_end():
    class Model(ResNet):
        def forward(self, x):
            return nn.functional.softmax(super().forward(x), dim=-1)

    return make(Model())


def labels_shuffled_by_pandas():
    files = folder(TRAIN, 0)
    names = [kind for _, kind in files]
    np.random.default_rng(0).shuffle(names)
    return make(train=Folder([(data, kind) for (data, _), kind in zip(files, names, strict=True)], augmented))


def validation_not_normalised():
    return make(val=Folder(folder(VAL, 1), to_tensor))


def weights_of_unit_normal():
    model = ResNet(norm=lambda c: nn.Identity())
    for m in model.modules():
        if isinstance(m, nn.Conv2d | nn.Linear):
            nn.init.normal_(m.weight)
    return make(model)


def blue_red_on_validation():
    """Read by another library in validation: BGR, and 0 to 255."""
    return make(val=Folder(folder(VAL, 1), lambda im: to_tensor(im).flip(0) * 255))


CASES = cases(
    base,
    {
        whole_number_division: "constant-inputs",
        cache_of_one: ("repeated-samples", "constant-inputs"),
        divided_by_255_again: ("inputs-normalised-twice", "wrong-normalisation-statistics"),
        statistics_of_bytes: "wrong-normalisation-statistics",
        channels_come_last: ("channels-last-input", "forward-shape-mismatch"),
        view_for_permute: "scrambled-image-layout",
        size_changed_in_the_loader: "forward-shape-mismatch",
        first_thousand_files: ("incomplete-dataset", "missing-classes"),
        one_file_is_cut_short: "unreadable-sample",
        float_labels: "label-dtype-mismatch",
        validation_split_off_the_augmented: "augmentation-on-validation",
        generator_of_the_dataset: "duplicate-worker-randomness",
        classes_in_another_order: "label-map-differs-in-validation",
        slow_files: "slow-dataloader",
        in_order_of_the_folders: "unshuffled-training-data",
        softmax_at_the_end: "softmax-before-cross-entropy",
        labels_shuffled_by_pandas: "labels-unrelated-to-inputs",
        validation_not_normalised: "train-val-preprocessing-mismatch",
        weights_of_unit_normal: "exploding-initialisation",
        blue_red_on_validation: "train-val-preprocessing-mismatch",
    },
    structural=(view_for_permute,),
)[1:]  # the program itself is there already
