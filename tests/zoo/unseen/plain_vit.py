"""A small vision transformer, written by hand, on pictures kept as one array."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from diagnose import Pipeline


@functools.lru_cache
def load(n=1400):
    """(N, 24, 24, 3) bytes of four kinds of spots, and their class."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:24, :24]
    labels = rng.integers(0, 4, n)
    images = np.empty((n, 24, 24, 3), np.uint8)
    for i, label in enumerate(labels):
        cy, cx = [(7, 7), (7, 16), (16, 7), (16, 16)][label] + rng.normal(0, 1.2, 2)
        spot = np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / rng.uniform(8, 20))
        other = np.exp(-((y - rng.integers(2, 22)) ** 2 + (x - rng.integers(2, 22)) ** 2) / 6)
        image = 60 + 110 * spot[..., None] * rng.uniform(0.7, 1, 3) + 60 * other[..., None]
        images[i] = np.clip(image + rng.normal(0, 25, (24, 24, 3)), 0, 255)
    return images, labels


class Block(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x):
        h = self.norm1(x)
        x = x + self.attention(h, h, h, need_weights=False)[0]
        x = x + self.mlp(self.norm2(x))
        return x


class ViT(nn.Module):
    def __init__(self, num_classes=4, dim=48, depth=3, heads=4, patch=6):
        super().__init__()
        self.patch_embed = nn.Conv2d(3, dim, kernel_size=patch, stride=patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.randn(1, 17, dim) * 0.02)
        self.blocks = nn.ModuleList([Block(dim, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, num_classes)

    def forward(self, images):
        x = self.patch_embed(images).flatten(2).transpose(1, 2)
        cls = self.cls_token.expand(x.size(0), -1, -1)
        x = torch.cat([cls, x], dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x[:, 0]))


def build():
    images, labels = load()
    images = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    images = (images - 0.27) / 0.12
    labels = torch.from_numpy(labels).long()
    train_set = TensorDataset(images[:1100], labels[:1100])
    val_set = TensorDataset(images[1100:], labels[1100:])
    train_loader = DataLoader(train_set, batch_size=50, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=50)

    model = ViT()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    total_steps = 12 * len(train_loader)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-3, total_steps=total_steps)
    return Pipeline(
        model=model,
        train=train_loader,
        val=val_loader,
        loss=nn.CrossEntropyLoss(),
        optimizer=optimizer,
        scheduler=scheduler,
        scheduler_interval="step",
        num_classes=4,
        epochs=12,
    )
