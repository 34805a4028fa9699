"""Small coloured glyphs in eight classes, a residual network, and a step of one's own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from diagnose import Pipeline


class Glyphs(Dataset):
    def __init__(self, count, seed, train):
        g = torch.Generator().manual_seed(99)
        stamps = (torch.rand(8, 3, 7, 7, generator=g) > 0.5).float()
        g = torch.Generator().manual_seed(seed)
        self.labels = torch.randint(0, 8, (count,), generator=g)
        self.images = 0.3 * torch.randn(count, 3, 16, 16, generator=g)
        for image, label in zip(self.images, self.labels, strict=True):
            y, x = torch.randint(0, 9, (2,), generator=g).tolist()
            image[:, y : y + 7, x : x + 7] += stamps[label] * (0.5 + torch.rand(3, 1, 1, generator=g))
        self.train = train

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        image = self.images[i]
        if self.train:
            image = image + 0.1 * torch.randn_like(image)
        return image, self.labels[i]


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.a = nn.Conv2d(channels, channels, 3, padding=1)
        self.b = nn.Conv2d(channels, channels, 3, padding=1)
        self.n1, self.n2 = nn.GroupNorm(4, channels), nn.GroupNorm(4, channels)

    def forward(self, x):
        return x + self.b(F.silu(self.n2(self.a(F.silu(self.n1(x))))))


class ResNet(nn.Module):
    def __init__(self, width=24):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.Sequential(Block(width), nn.AvgPool2d(2), Block(width), nn.AvgPool2d(2))
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(width, 8)

    def forward(self, x):
        x = self.blocks(self.stem(x)).amax((2, 3))
        return self.head(self.dropout(x))


def train_step(model, batch, optimizer):
    x, y = batch
    optimizer.zero_grad(set_to_none=True)
    loss = F.cross_entropy(model(x), y, label_smoothing=0.1)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.detach()


def build():
    model = ResNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.02)
    return Pipeline(
        model=model,
        train=DataLoader(Glyphs(2000, 1, True), batch_size=40, shuffle=True),
        val=DataLoader(Glyphs(400, 2, False), batch_size=100),
        loss=nn.CrossEntropyLoss(),
        optimizer=optimizer,
        train_step=train_step,
        epochs=6,
    )
