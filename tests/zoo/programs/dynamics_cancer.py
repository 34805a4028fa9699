"""Breast cancer: plain functions in one file, put together at its end."""

from __future__ import annotations

import torch
from sklearn.datasets import load_breast_cancer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from diagnose import Pipeline


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(30, 32), nn.Sigmoid(), nn.Linear(32, 32), nn.Sigmoid(), nn.Linear(32, 2))

    def forward(self, x):
        return self.layers(x)


def get_model():
    return Net()


def get_loaders():
    x, y = load_breast_cancer(return_X_y=True)
    x, y = torch.tensor(x, dtype=torch.float32), torch.tensor(y)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    x, y = x[order], y[order]
    mean, std = x[:440].mean(0), x[:440].std(0)
    x = (x - mean) / std
    train = DataLoader(TensorDataset(x[:440], y[:440]), batch_size=16, shuffle=True)
    return train, DataLoader(TensorDataset(x[440:], y[440:]), batch_size=64)


def get_loss():
    return nn.CrossEntropyLoss()


def get_optimizer(model):
    return torch.optim.Adam(model.parameters(), lr=5e-3)


def build():
    model = get_model()
    train, val = get_loaders()
    return Pipeline(model=model, train=train, val=val, loss=get_loss(), optimizer=get_optimizer(model), epochs=10)
