"""Made tabular data in five classes: batch norm, dropout, AdamW and one-cycle."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import make_classification
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, TensorDataset

from diagnose import Pipeline

EPOCHS = 12


def block(width_in, width_out, p):
    return nn.Sequential(nn.Linear(width_in, width_out), nn.BatchNorm1d(width_out), nn.GELU(), nn.Dropout(p))


class Mlp(nn.Module):
    def __init__(self, features, classes, width=96, p=0.2):
        super().__init__()
        self.body = nn.Sequential(block(features, width, p), block(width, width, p))
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        return self.head(self.body(x))


def make_data():
    x, y = make_classification(
        4000, 24, n_informative=12, n_redundant=6, n_classes=5, class_sep=1.6, flip_y=0.02, random_state=5
    )
    x_train, x_val, y_train, y_val = train_test_split(x, y, test_size=0.25, random_state=0, stratify=y)
    scaler = StandardScaler().fit(x_train)
    x_train, x_val = scaler.transform(x_train), scaler.transform(x_val)
    return [torch.as_tensor(a.astype(np.float32)) for a in (x_train, x_val)], [
        torch.as_tensor(a) for a in (y_train, y_val)
    ]


def build():
    (x_train, x_val), (y_train, y_val) = make_data()
    model = Mlp(x_train.shape[1], 5)
    train = DataLoader(TensorDataset(x_train, y_train), batch_size=64, shuffle=True, drop_last=True)
    val = DataLoader(TensorDataset(x_val, y_val), batch_size=256)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    scheduler = OneCycleLR(optimizer, max_lr=3e-3, total_steps=EPOCHS * len(train))
    return Pipeline(
        model=model,
        train=train,
        val=val,
        loss=nn.CrossEntropyLoss(label_smoothing=0.05),
        optimizer=optimizer,
        scheduler=scheduler,
        scheduler_interval="step",
        epochs=EPOCHS,
    )
