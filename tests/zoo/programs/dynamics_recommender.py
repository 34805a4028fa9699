"""Ratings of items by users: embeddings, biases and a small tower; two groups of parameters, few interactions each."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from diagnose import Pipeline

USERS, ITEMS, RANK = 240, 160, 3


def interactions(count, seed):
    taste = torch.Generator().manual_seed(41)
    users, items = torch.randn(USERS, RANK, generator=taste), torch.randn(ITEMS, RANK, generator=taste)
    generous, popular = 0.5 * torch.randn(USERS, generator=taste), 0.5 * torch.randn(ITEMS, generator=taste)
    g = torch.Generator().manual_seed(seed)
    u, i = torch.randint(0, USERS, (count,), generator=g), torch.randint(0, ITEMS, (count,), generator=g)
    liking = (users[u] * items[i]).sum(1) / RANK**0.5 + generous[u] + popular[i]
    return u, i, liking + 0.3 * torch.randn(count, generator=g)


class Ratings(Dataset):
    def __init__(self, count, seed):
        self.users, self.items, self.ratings = interactions(count, seed)
        self.ratings = self.ratings / 1.3

    def __len__(self):
        return len(self.ratings)

    def __getitem__(self, k):
        return self.users[k], self.items[k], self.ratings[k]


class Recommender(nn.Module):
    def __init__(self, dim=12, hidden=32):
        super().__init__()
        self.user, self.item = nn.Embedding(USERS, dim), nn.Embedding(ITEMS, dim)
        self.user_bias, self.item_bias = nn.Embedding(USERS, 1), nn.Embedding(ITEMS, 1)
        for table in (self.user, self.item):
            nn.init.normal_(table.weight, std=0.3)
        for table in (self.user_bias, self.item_bias):
            nn.init.zeros_(table.weight)
        self.drop = nn.Dropout(0.05)
        self.tower = nn.Sequential(nn.Linear(2 * dim, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def forward(self, users, items):
        p, q = self.drop(self.user(users)), self.drop(self.item(items))
        bias = self.user_bias(users) + self.item_bias(items)
        return ((p * q).sum(1, keepdim=True) + bias + self.tower(torch.cat([p, q], 1))).squeeze(1)


def build():
    model = Recommender()
    tables = [p for name, p in model.named_parameters() if not name.startswith("tower")]
    optimizer = torch.optim.Adam(
        [
            {"params": tables, "lr": 5e-3, "weight_decay": 0.0},
            {"params": model.tower.parameters(), "lr": 1e-3, "weight_decay": 1e-5},
        ]
    )
    return Pipeline(
        model=model,
        train=DataLoader(Ratings(12_000, 1), batch_size=100, shuffle=True),
        val=DataLoader(Ratings(1_500, 2), batch_size=500),
        loss=nn.MSELoss(),
        optimizer=optimizer,
        task="regression",
        epochs=6,
    )
