"""Handwritten digits by a plain CNN, with the whole step written by the user."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

from diagnose import Pipeline


class DigitNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
        )
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(32 * 16, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, x):
        return self.classifier(self.features(x))


def train_step(model, batch, optimizer):
    images, labels = batch
    model.train()
    optimizer.zero_grad()
    outputs = model(images)
    loss = F.cross_entropy(outputs, labels)
    loss.backward()
    optimizer.step()
    return loss.detach()


def build():
    X, y = load_digits(return_X_y=True)
    images = torch.tensor(X, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    labels = torch.tensor(y)
    dataset = TensorDataset(images, labels)
    train, val = random_split(dataset, [1500, 297], torch.Generator().manual_seed(0))
    model = DigitNet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return Pipeline(
        model=model,
        train=DataLoader(train, batch_size=32, shuffle=True),
        val=DataLoader(val, batch_size=64),
        loss=F.cross_entropy,
        optimizer=optimizer,
        train_step=train_step,
        num_classes=10,
        epochs=10,
    )
