"""A digits CNN with its companions, a pipeline factory, a finished model, and a factory that trains too slowly."""

import time

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import diagnose


class Net(nn.Module):
    def __init__(self, width: int = 8, num_classes: int = 10) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2))
        self.head = nn.Linear(width * 16, num_classes)

    def forward(self, x):
        return self.head(self.body(x).flatten(1))


def get_model(width: int = 8, num_classes: int = 10):
    return Net(width, num_classes)


def get_loaders(batch_size: int = 32):
    from sklearn.datasets import load_digits

    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16
    labels = torch.tensor(data.target)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    train, val = order[:800], order[800:1000]
    return (
        DataLoader(TensorDataset(images[train], labels[train]), batch_size, shuffle=True),
        DataLoader(TensorDataset(images[val], labels[val]), 128),
        10,
    )


def get_optimizer(model, lr: float = 5e-3):
    return torch.optim.Adam(model.parameters(), lr=lr)


def get_pipeline(lr: float = 5e-3):
    train, val, classes = get_loaders()
    net = Net()
    return diagnose.Pipeline(
        net, train, val, nn.CrossEntropyLoss(), get_optimizer(net, lr), num_classes=classes, epochs=2
    )


class Slow(Net):
    def forward(self, x):
        time.sleep(0.02)
        return super().forward(x)


def get_slow_model():
    return Slow()


def get_probabilities():
    return nn.Sequential(Net(), nn.Softmax(1))


model = Net()
