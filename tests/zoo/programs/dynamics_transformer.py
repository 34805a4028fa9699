"""A small transformer encoder that tells which token comes most often; AdamW with warm-up."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from diagnose import Pipeline

EPOCHS, WARMUP = 10, 60


def most_frequent(count, seed, classes=6, length=24):
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (count,), generator=g)
    tokens = torch.randint(0, 16, (count, length), generator=g)
    places = torch.rand(count, length, generator=g).argsort(1)[:, :7]
    tokens.scatter_(1, places, labels[:, None].expand(-1, 7))
    return TensorDataset(tokens, labels)


class Classifier(nn.Module):
    def __init__(self, dim=48, depth=2, dropout=0.1):
        super().__init__()
        self.tokens = nn.Embedding(16, dim)
        self.position = nn.Parameter(torch.randn(1, 24, dim) * 0.02)
        layer = nn.TransformerEncoderLayer(dim, 4, 96, dropout=dropout, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, 6)

    def forward(self, tokens):
        hidden = self.encoder(self.tokens(tokens) + self.position)
        return self.head(self.norm(hidden).mean(1))


def build():
    model = Classifier()
    train = DataLoader(most_frequent(3200, 0), batch_size=64, shuffle=True)
    val = DataLoader(most_frequent(640, 1), batch_size=128)
    decay = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decay, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    total = EPOCHS * len(train)

    def rate(step):
        return min(1.0, (step + 1) / WARMUP) * max(0.05, 1 - step / total)

    return Pipeline(
        model=model,
        train=train,
        val=val,
        loss=nn.CrossEntropyLoss(label_smoothing=0.1),
        optimizer=optimizer,
        scheduler=torch.optim.lr_scheduler.LambdaLR(optimizer, rate),
        scheduler_interval="step",
        epochs=EPOCHS,
    )
