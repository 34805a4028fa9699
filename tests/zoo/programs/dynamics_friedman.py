"""Regression on Friedman's first function, tanh units, clipped Adam."""

from __future__ import annotations

import torch
from sklearn.datasets import make_friedman1
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from diagnose import Pipeline

torch.set_default_dtype(torch.float32)


def init_weights(module):
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)


def build_model(hidden=64):
    model = nn.Sequential(
        nn.Linear(10, hidden),
        nn.Tanh(),
        nn.Linear(hidden, hidden),
        nn.Tanh(),
        nn.Linear(hidden, hidden),
        nn.Tanh(),
        nn.Linear(hidden, 1),
    )
    model.apply(init_weights)
    return model


def build():
    x, y = make_friedman1(n_samples=3000, n_features=10, noise=1.0, random_state=1)
    x = (torch.tensor(x, dtype=torch.float32) - 0.5) / 0.29
    y = torch.tensor(y, dtype=torch.float32).unsqueeze(1)
    y = (y - y[:2400].mean()) / y[:2400].std()
    model = build_model()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, weight_decay=1e-5)
    return Pipeline(
        model=model,
        train=DataLoader(TensorDataset(x[:2400], y[:2400]), batch_size=32, shuffle=True),
        val=DataLoader(TensorDataset(x[2400:], y[2400:]), batch_size=300),
        loss=nn.MSELoss(),
        optimizer=optimizer,
        scheduler=torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20),
        clip_grad_norm=5.0,
        task="regression",
        epochs=20,
    )
