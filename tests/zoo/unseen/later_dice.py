"""Shapes cut out of noisy pictures: ground, disc and square, by an encoder-decoder with Dice plus cross-entropy."""

from __future__ import annotations

import functools

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from diagnose import Pipeline
from zoo.cases import cases

SIZE, COUNT, TRAIN, KINDS = 24, 420, 340, 3


@functools.lru_cache
def pictures():
    rng = np.random.default_rng(60)
    row, column = np.mgrid[0:SIZE, 0:SIZE]
    x, masks = [], []
    for i in range(COUNT):
        mask = np.zeros((SIZE, SIZE), np.int64)
        r, c = rng.integers(5, 19, 2)
        if i % 3:
            mask[(row - r) ** 2 + (column - c) ** 2 < rng.integers(9, 25)] = 1
        r, c, s = rng.integers(4, 17), rng.integers(4, 17), rng.integers(2, 5)
        mask[r - s // 2 : r + s, c - s // 2 : c + s] = 2
        shade = np.array([0.3, 0.55, 0.75])[mask]
        x.append(shade + rng.normal(0, 0.12, mask.shape))
        masks.append(mask)
    return torch.tensor(np.stack(x), dtype=torch.float32)[:, None], torch.tensor(np.stack(masks))


def conv(a, b):
    return nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU())


class Cutter(nn.Module):
    def __init__(self, out=KINDS, last=None):
        super().__init__()
        self.down, self.deep = conv(1, 12), conv(12, 24)
        self.up, self.head = conv(36, 12), nn.Conv2d(12, out, 1)
        self.last = last or nn.Identity()

    def forward(self, x):
        a = self.down(x)
        b = self.deep(F.max_pool2d(a, 2))
        return self.last(self.head(self.up(torch.cat([a, F.interpolate(b, scale_factor=2)], 1))))


def dice(output, target, smooth=1.0):
    probability = output.softmax(1)
    wanted = F.one_hot(target, KINDS).permute(0, 3, 1, 2)
    both = (probability * wanted).sum((0, 2, 3))
    return 1 - ((2 * both + smooth) / (probability.sum((0, 2, 3)) + wanted.sum((0, 2, 3)) + smooth)).mean()


def criterion(output, target):
    return dice(output, target) + F.cross_entropy(output, target)


def make(model=None, loss=criterion, masks=None, x=None, num_classes=None, **rest):
    model = model or Cutter()
    x = pictures()[0] if x is None else x
    y = pictures()[1] if masks is None else masks
    return Pipeline(
        model=model,
        train=DataLoader(TensorDataset(x[:TRAIN], y[:TRAIN]), batch_size=16, shuffle=True),
        val=DataLoader(TensorDataset(x[TRAIN:], y[TRAIN:]), batch_size=20),
        loss=loss,
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
        epochs=8,
        **rest,
    )


def build():
    return make()


# faults


def share_of_what_is_not_there():
    """What is found of each kind, per picture; a third of the pictures hold no disc."""

    def loss(output, target):
        wanted = F.one_hot(target, KINDS).permute(0, 3, 1, 2)
        found = (output.softmax(1) * wanted).sum((2, 3)) / wanted.sum((2, 3))
        return F.cross_entropy(output, target) + 1 - found.mean()

    return make(loss=loss)


def probabilities_out():
    return make(model=Cutter(last=nn.Softmax(dim=1)))


def dice_of_the_choice():
    def loss(output, target):
        chosen, wanted = (F.one_hot(t, KINDS).float() for t in (output.argmax(1), target))
        return 1 - (2 * (chosen * wanted).sum() + 1) / (chosen.sum() + wanted.sum() + 1)

    return make(loss=loss)


def score_minimised():
    def loss(output, target):
        return 1 - dice(output, target)

    return make(loss=loss)


def grey_levels_in_the_masks():
    return make(masks=pictures()[1] * 127)


def pixels_viewed():
    def loss(output, target):
        return F.cross_entropy(output.reshape(-1, KINDS), target.flatten())

    return make(loss=loss)


def softmax_over_pictures():
    def loss(output, target):
        probability = output.softmax(0)
        wanted = F.one_hot(target, KINDS).permute(0, 3, 1, 2)
        return 1 - (2 * (probability * wanted).sum() + 1) / (probability.sum() + wanted.sum() + 1)

    return make(loss=loss)


def masks_as_floats():
    return make(masks=pictures()[1].float(), loss=nn.CrossEntropyLoss())


def masks_of_other_pictures():
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(0))
    return make(masks=pictures()[1][order])


def mask_as_a_channel():
    x, y = pictures()
    return make(x=torch.cat([x, y[:, None] / 2.0], 1), model=_two_channels())


def _two_channels():
    model = Cutter()
    model.down = conv(2, 12)
    return model


def ground_is_ignored():
    def loss(output, target):
        return F.cross_entropy(output, target, ignore_index=0)

    return make(loss=loss)


def logits_rectified():
    return make(model=Cutter(last=nn.ReLU()))


# healthy


def only_dice():
    return make(loss=dice)


def borders_ignored():
    y = pictures()[1]
    border = F.max_pool2d(y[:, None].float(), 3, 1, 1)[:, 0] != -F.max_pool2d(-y[:, None].float(), 3, 1, 1)[:, 0]
    return make(masks=y.masked_fill(border, 255), loss=nn.CrossEntropyLoss(ignore_index=255))


def several_scales():
    class Scales(Cutter):
        def __init__(self):
            super().__init__()
            self.side = nn.Conv2d(24, KINDS, 1)

        def forward(self, x):
            a = self.down(x)
            b = self.deep(F.max_pool2d(a, 2))
            b_up = F.interpolate(b, scale_factor=2)
            return [self.head(self.up(torch.cat([a, b_up], 1))), self.side(b_up)]

    def loss(outputs, target):
        return sum(w * F.cross_entropy(o, target) for w, o in zip((1, 0.4), outputs, strict=True))

    return make(model=Scales(), loss=loss)


def one_sigmoid_per_kind():
    wanted = F.one_hot(pictures()[1], KINDS).permute(0, 3, 1, 2)[:, 1:].float()

    def loss(output, target):
        probability = output.sigmoid()
        overlap = (2 * (probability * target).sum() + 1) / (probability.sum() + target.sum() + 1)
        return F.binary_cross_entropy_with_logits(output, target) + 1 - overlap

    return make(model=Cutter(out=2), masks=wanted, loss=loss)


CASES = cases(
    build,
    {
        share_of_what_is_not_there: ("nonfinite-loss", "unstable-log"),
        probabilities_out: "softmax-before-cross-entropy",
        dice_of_the_choice: "loss-detached",
        score_minimised: "loss-sign-flipped",
        grey_levels_in_the_masks: "labels-out-of-range",
        pixels_viewed: "wrong-loss-axis",
        softmax_over_pictures: "softmax-over-batch",
        masks_as_floats: "label-dtype-mismatch",
        masks_of_other_pictures: "labels-unrelated-to-inputs",
        mask_as_a_channel: "target-leaked-into-input",
        ground_is_ignored: "ignore-index-hits-class",
        logits_rectified: "activation-on-logits",
    },
    [only_dice, borders_ignored, several_scales, one_sigmoid_per_kind],
    structural=[mask_as_a_channel],
)
