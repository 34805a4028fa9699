"""Ten kinds of grey silhouettes; the perceptron of a first tutorial, with Adam."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from diagnose import Pipeline

SIDE, CLASSES = 12, 10


def silhouettes(count, seed):
    coarse = torch.randn(CLASSES, 1, 4, 4, generator=torch.Generator().manual_seed(99))
    kinds = F.interpolate(coarse, size=(SIDE, SIDE), mode="bilinear", align_corners=True).sigmoid()
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, CLASSES, (count,), generator=g)
    images = kinds[labels]
    shifts = torch.randint(-1, 2, (count, 2), generator=g).tolist()
    images = torch.stack([torch.roll(image, shift, (1, 2)) for image, shift in zip(images, shifts, strict=True)])
    contrast = 0.5 + 0.5 * torch.rand(count, 1, 1, 1, generator=g)
    images = (contrast * images + 0.15 * torch.randn(images.shape, generator=g)).clamp(0, 1)
    return images, labels


class NeuralNetwork(nn.Module):
    def __init__(self, hidden=128):
        super().__init__()
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(SIDE * SIDE, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, CLASSES)

    def forward(self, x):
        x = self.flatten(x)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.out(x)


def build():
    train = DataLoader(TensorDataset(*silhouettes(8000, 0)), batch_size=64, shuffle=True)
    val = DataLoader(TensorDataset(*silhouettes(1000, 1)), batch_size=64)
    model = NeuralNetwork()
    return Pipeline(
        model=model,
        train=train,
        val=val,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-3),
        epochs=5,
    )
