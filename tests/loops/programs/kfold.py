"""Cross-validation: a model and an optimizer for each fold; every sample is held out once."""

import os

import torch
from sklearn.datasets import load_iris
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

torch.manual_seed(int(os.environ.get("SEED", "0")))
values, kinds = load_iris(return_X_y=True)
values = torch.tensor(values, dtype=torch.float32)
dataset = TensorDataset((values - values.mean(0)) / values.std(0), torch.tensor(kinds))
order = torch.randperm(len(dataset)).tolist()


def build():
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))


def train_fold(model, optimizer, train_loader):
    for _ in range(12):
        for x, y in train_loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()


scores = []
for fold in range(3):
    test_part = order[fold::3]
    train_part = [i for i in order if i not in set(test_part)]
    model = build()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    train_fold(model, optimizer, DataLoader(Subset(dataset, train_part), batch_size=20, shuffle=True))
    with torch.no_grad():
        hits = [(model(x).argmax(1) == y).float().mean().item() for x, y in DataLoader(Subset(dataset, test_part), 50)]
    scores.append(sum(hits) / len(hits))
print(scores)
