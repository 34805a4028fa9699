"""Segmentation: a small U-Net that marks squares and discs."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from diagnose import Pipeline

NUM_CLASSES = 3  # background, square, disc


@functools.lru_cache
def scenes(n=360):
    rng = np.random.default_rng(4)
    y, x = np.mgrid[:32, :32]
    images, masks = [], []
    for _ in range(n):
        mask = np.zeros((32, 32), np.int64)
        for kind in (1, 2):
            cy, cx, r = rng.integers(7, 25), rng.integers(7, 25), rng.integers(4, 8)
            inside = np.maximum(abs(y - cy), abs(x - cx)) < r if kind == 1 else np.hypot(y - cy, x - cx) < r
            mask[inside] = kind
        colours = np.array([[0.2, 0.3, 0.3], [0.7, 0.4, 0.3], [0.4, 0.5, 0.8]])
        images.append(colours[mask] + rng.normal(0, 0.08, (32, 32, 3)))
        masks.append(mask)
    return np.clip(images, 0, 1).astype(np.float32), np.stack(masks)


class Scenes(Dataset):
    def __init__(self, images, masks, augment=False):
        self.images = images
        self.masks = masks
        self.augment = augment

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        image = torch.from_numpy(self.images[i]).permute(2, 0, 1)
        mask = torch.from_numpy(self.masks[i])
        if self.augment and torch.rand(1) < 0.5:
            image, mask = image.flip(-1), mask.flip(-1)
        return (image - 0.35) / 0.2, mask


def double_conv(c_in, c_out):
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, padding=1),
        nn.BatchNorm2d(c_out),
        nn.ReLU(inplace=True),
        nn.Conv2d(c_out, c_out, 3, padding=1),
        nn.BatchNorm2d(c_out),
        nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    def __init__(self, num_classes=NUM_CLASSES, width=12):
        super().__init__()
        self.down1 = double_conv(3, width)
        self.down2 = double_conv(width, 2 * width)
        self.bottom = double_conv(2 * width, 4 * width)
        self.pool = nn.MaxPool2d(2)
        self.up2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.dec2 = double_conv(4 * width, 2 * width)
        self.up1 = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.dec1 = double_conv(2 * width, width)
        self.out = nn.Conv2d(width, num_classes, 1)

    def forward(self, x):
        d1 = self.down1(x)
        d2 = self.down2(self.pool(d1))
        b = self.bottom(self.pool(d2))
        u2 = self.dec2(torch.cat([self.up2(b), d2], dim=1))
        u1 = self.dec1(torch.cat([self.up1(u2), d1], dim=1))
        return self.out(u1)


def build():
    images, masks = scenes()
    train_loader = DataLoader(Scenes(images[:300], masks[:300], augment=True), batch_size=10, shuffle=True)
    val_loader = DataLoader(Scenes(images[300:], masks[300:]), batch_size=10)
    model = UNet()
    return Pipeline(
        model=model,
        train=train_loader,
        val=val_loader,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-3),
        task="segmentation",
        num_classes=NUM_CLASSES,
        epochs=10,
    )
