"""Faults in the segmentation of discs and bars: masks, layout, the U-Net and its loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.cases import Case, faulty
from zoo.programs.segmentation import (
    MEAN,
    NAMES,
    SIZE,
    STD,
    VOID,
    Array,
    Pair,
    UNet,
    adam,
    build,
    conv_block,
    to_tensors,
)


class Viewed(nn.Module):
    """Cross-entropy over pixels and classes made flat by a view."""

    def forward(self, logits: Tensor, masks: Tensor) -> Tensor:
        return F.cross_entropy(logits.view(-1, len(NAMES)), masks.view(-1), ignore_index=VOID)


class WithoutBackground(nn.Module):
    """Void is made background, and background is ignored."""

    def forward(self, logits: Tensor, masks: Tensor) -> Tensor:
        masks = torch.where(masks == VOID, 0, masks)
        return F.cross_entropy(logits, masks, ignore_index=0)


class Dice(nn.Module):
    """The overlap, which is best when large."""

    def forward(self, logits: Tensor, masks: Tensor) -> Tensor:
        known = (masks != VOID).unsqueeze(1)
        wanted = F.one_hot(masks.clamp_max(len(NAMES) - 1), len(NAMES)).permute(0, 3, 1, 2) * known
        found = logits.softmax(1) * known
        overlap = 2 * (found * wanted).sum((0, 2, 3)) / (found.sum((0, 2, 3)) + wanted.sum((0, 2, 3)) + 1e-6)
        return overlap.mean()


class Balanced(nn.Module):
    """Weights by the frequency of the classes, one of which does not occur."""

    def __init__(self) -> None:
        super().__init__()
        share = torch.tensor([0.6, 0.2, 0.2, 0.0])
        weight = 1 / share
        self.weight = (weight / weight.sum())[: len(NAMES)]

    def forward(self, logits: Tensor, masks: Tensor) -> Tensor:
        return F.cross_entropy(logits, masks, weight=self.weight, ignore_index=VOID)


class PerPixel(nn.Module):
    """Keeps a loss for each pixel, for a map of them."""

    def forward(self, logits: Tensor, masks: Tensor) -> Tensor:
        return F.cross_entropy(logits, masks, ignore_index=VOID, reduction="none")


class SoftUNet(UNet):
    """Ends with a softmax over the classes."""

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image).softmax(dim=1)


class SigmoidUNet(UNet):
    """One mask per class, each by a sigmoid."""

    def forward(self, image: Tensor) -> Tensor:
        return torch.sigmoid(super().forward(image))


class HalfUNet(UNet):
    """Lacks the last step up."""

    def forward(self, image: Tensor) -> Tensor:
        a = self.down1(image)
        b = self.down2(self.pool(a))
        c = self.bottom(self.pool(b))
        b = self.up2(torch.cat([self.grow(c), b], dim=1))
        a = self.up1(torch.cat([b, self.pool(a)], dim=1))
        logits: Tensor = self.head(a)
        return logits


class OddUNet(UNet):
    """Pads no convolution on the way down, so that the skip connections do not fit."""

    def __init__(self) -> None:
        super().__init__()
        self.down2 = nn.Sequential(nn.Conv2d(10, 20, 3), nn.BatchNorm2d(20), nn.ReLU())


class CutUNet(UNet):
    """What goes into the decoder has left the graph."""

    def forward(self, image: Tensor) -> Tensor:
        a = self.down1(image)
        b = self.down2(self.pool(a))
        c = self.bottom(self.pool(b))
        a, b, c = a.data, b.data, c.data
        b = self.up2(torch.cat([self.grow(c), b], dim=1))
        a = self.up1(torch.cat([self.grow(b), a], dim=1))
        logits: Tensor = self.head(a)
        return logits


class NoBottom(UNet):
    """Forgets the bottom of the U."""

    def __init__(self) -> None:
        super().__init__()
        self.up2 = conv_block(40, 20)

    def forward(self, image: Tensor) -> Tensor:
        a = self.down1(image)
        b = self.down2(self.pool(a))
        c = self.pool(b)
        b = self.up2(torch.cat([self.grow(c), b], dim=1))
        a = self.up1(torch.cat([self.grow(b), a], dim=1))
        logits: Tensor = self.head(a)
        return logits


def lagging_block(inputs: int, outputs: int) -> nn.Sequential:
    """BatchNorm with the momentum of another library."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs, momentum=0.0005), nn.ReLU()
    )


def dropping_block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(*conv_block(inputs, outputs), nn.Dropout2d(0.8))


def rows_mixed(picture: Array, mask: Array) -> Pair:
    """Channels first by a reshape."""
    image = torch.from_numpy(picture).reshape(3, SIZE, SIZE).float() / 255
    return (image - MEAN) / STD, torch.from_numpy(mask).long()


def channels_last(picture: Array, mask: Array) -> Pair:
    image = torch.from_numpy(picture).float() / 255
    return (image - MEAN) / STD, torch.from_numpy(mask).long()


def bytes_only(picture: Array, mask: Array) -> Pair:
    return torch.from_numpy(picture).permute(2, 0, 1).contiguous(), torch.from_numpy(mask).long()


def float_mask(picture: Array, mask: Array) -> Pair:
    """The mask goes the way of the picture."""
    image, _ = to_tensors(picture, mask)
    return image, torch.from_numpy(mask).float()


def wide_outline(picture: Array, mask: Array) -> Pair:
    """The void outline is widened by more than the picture is wide."""
    image, target = to_tensors(picture, mask)
    void = (target == VOID).float()[None, None]
    wide = F.max_pool2d(void, 2 * SIZE + 1, stride=1, padding=SIZE)[0, 0] > 0
    return image, target.masked_fill(wide, VOID)


def turned(picture: Array, mask: Array) -> Pair:
    """Turns and mirrors the picture."""
    turns, mirror = (int(v) for v in torch.randint(0, 4, (2,)))
    picture = np.rot90(picture, turns).copy()
    return to_tensors(np.flip(picture, 1).copy() if mirror > 1 else picture, mask)


def drowned(picture: Array, mask: Array) -> Pair:
    """Noise and a square cut out, both far too much."""
    image, target = to_tensors(picture, mask)
    y, x = (int(v) for v in torch.randint(0, 6, (2,)))
    image = image + 3.0 * torch.randn_like(image)
    image[:, y : y + 15, x : x + 15] = 0
    return image, target


def noisy(picture: Array, mask: Array) -> Pair:
    """Noise, and brightness that differs by picture."""
    image, target = to_tensors(picture, mask)
    return image * (0.7 + 0.6 * torch.rand(1)) + 0.6 * torch.randn_like(image), target


def only_scaled(picture: Array, mask: Array) -> Pair:
    return torch.from_numpy(picture).permute(2, 0, 1).float(), torch.from_numpy(mask).long()


def density(picture: Array, mask: Array) -> Pair:
    """The logarithm of the light, also where there is none."""
    light = torch.from_numpy(picture).permute(2, 0, 1).float() / 255
    return -light.log10(), torch.from_numpy(mask).long()


def scaled_as_bytes(picture: Array, mask: Array) -> Pair:
    """Scales the bytes to 0..1, as bytes."""
    return to_tensors((picture / 256).astype(picture.dtype), mask)


def decoder_only(model: nn.Module) -> torch.optim.Optimizer:
    parts = [model.up2, model.up1, model.head]
    return torch.optim.Adam([p for part in parts for p in part.parameters()], lr=5e-3)  # type: ignore[union-attr]


def large_steps(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=1.0)


def tiny_steps(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=1e-7)


def forgets_step(model: nn.Module, batch: Pair, optimizer: torch.optim.Optimizer) -> Tensor:
    """Loss and gradient."""
    optimizer.zero_grad()
    loss = F.cross_entropy(model(batch[0]), batch[1], ignore_index=VOID)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    return loss.detach()


def frozen(model: nn.Module) -> torch.optim.Optimizer:
    optimizer = adam(model)
    for parameter in model.parameters():
        parameter.requires_grad = False
    return optimizer


def use(transform: Any) -> dict[str, Any]:
    """The same transform on both splits."""
    return {"transform": transform, "val_transform": transform}


CASES: tuple[Case, ...] = (
    faulty(build, "wrong-loss-axis", loss=Viewed()),
    faulty(build, "ignore-index-hits-class", loss=WithoutBackground()),
    faulty(build, "loss-sign-flipped", loss=Dice()),
    faulty(build, "nonfinite-loss", loss=Balanced()),
    faulty(build, "loss-not-scalar", loss=PerPixel()),
    faulty(build, "labels-out-of-range", loss=nn.CrossEntropyLoss()),
    faulty(build, "softmax-before-cross-entropy", model=SoftUNet),
    faulty(build, "activation-on-logits", model=SigmoidUNet),
    faulty(build, "output-shape-mismatch", model=HalfUNet),
    faulty(build, "forward-shape-mismatch", model=OddUNet),
    faulty(build, "num-classes-mismatch", also=("output-shape-mismatch",), model=lambda: UNet(classes=2)),
    faulty(build, "graph-cut", model=CutUNet),
    faulty(build, "unused-parameters", structural=True, model=NoBottom),
    faulty(build, "batchnorm-statistics-lag", model=lambda: UNet(block=lagging_block)),
    faulty(build, "dropout-too-strong", model=lambda: UNet(block=dropping_block)),
    faulty(build, "scrambled-image-layout", **use(rows_mixed)),
    faulty(build, "channels-last-input", also=("forward-shape-mismatch",), **use(channels_last)),
    faulty(build, "input-dtype-mismatch", **use(bytes_only)),
    faulty(build, "label-dtype-mismatch", **use(float_mask)),
    faulty(build, "all-targets-ignored", **use(wide_outline)),
    faulty(build, "label-destroying-augmentation", also=("labels-unrelated-to-inputs",), transform=turned),
    faulty(build, "augmentation-too-strong", transform=drowned),
    faulty(build, "augmentation-on-validation", structural=True, **use(noisy)),
    faulty(build, "train-val-preprocessing-mismatch", val_transform=only_scaled),
    faulty(build, "nonfinite-inputs", **use(density)),
    faulty(build, "constant-inputs", **use(scaled_as_bytes)),
    faulty(build, "parameters-missing-from-optimizer", optimizer=decoder_only),
    faulty(build, "learning-rate-too-high", optimizer=large_steps),
    faulty(build, "learning-rate-too-low", optimizer=tiny_steps),
    faulty(build, "parameters-not-updated", train_step=forgets_step),
    faulty(build, "everything-frozen", optimizer=frozen),
    faulty(build, "empty-loader", loader={"batch_size": 512, "drop_last": True}),
)
