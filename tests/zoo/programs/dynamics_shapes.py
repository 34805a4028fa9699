"""Segmentation of discs and squares on a noisy ground, an encoder and a decoder with batch norm."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from diagnose import Pipeline


def scenes(count, seed, size=24):
    g = torch.Generator().manual_seed(seed)
    ys, xs = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    masks = torch.zeros(count, size, size, dtype=torch.long)
    for mask in masks:
        for kind in (1, 2):
            cy, cx = torch.randint(5, size - 5, (2,), generator=g)
            r = int(torch.randint(3, 6, (1,), generator=g))
            if kind == 1:
                mask[(ys - cy) ** 2 + (xs - cx) ** 2 <= r * r] = 1
            else:
                mask[((ys - cy).abs() <= r - 1) & ((xs - cx).abs() <= r - 1)] = 2
    tint = torch.tensor([[0.1, 0.2, 0.3], [0.9, 0.4, 0.3], [0.3, 0.5, 0.9]])
    images = tint[masks].permute(0, 3, 1, 2) + 0.25 * torch.randn(count, 3, size, size, generator=g)
    return images, masks


def conv(cin, cout):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True))


class UNet(nn.Module):
    def __init__(self, width=12):
        super().__init__()
        self.down1 = conv(3, width)
        self.down2 = conv(width, 2 * width)
        self.mid = nn.Sequential(conv(2 * width, 2 * width), nn.Dropout2d(0.1))
        self.up1 = conv(4 * width, width)
        self.last = nn.Conv2d(2 * width, 3, 1)
        self.pool = nn.MaxPool2d(2)
        self.up = nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, x):
        a = self.down1(x)
        b = self.down2(self.pool(a))
        c = self.mid(self.pool(b))
        d = self.up1(torch.cat([self.up(c), b], 1))
        return self.last(torch.cat([self.up(d), a], 1))


def build():
    model = UNet()
    images, masks = scenes(500, 0)
    train = DataLoader(TensorDataset(images[:400], masks[:400]), batch_size=8, shuffle=True)
    val = DataLoader(TensorDataset(images[400:], masks[400:]), batch_size=50)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    return Pipeline(
        model=model,
        train=train,
        val=val,
        loss=nn.CrossEntropyLoss(),
        optimizer=optimizer,
        task="segmentation",
        num_classes=3,
        epochs=6,
    )
