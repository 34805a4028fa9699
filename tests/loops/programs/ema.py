"""A moving average of the weights is evaluated; the average is a copy that no optimizer knows."""

import copy
import os

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(int(os.environ.get("SEED", "0")))
points = torch.randn(600, 10)
classes = (points[:, 0] * points[:, 1] > 0).long()
train_loader = DataLoader(TensorDataset(points[:480], classes[:480]), 32, shuffle=True)
valid_loader = DataLoader(TensorDataset(points[480:], classes[480:]), 60)
model = nn.Sequential(nn.Linear(10, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 2))
average = copy.deepcopy(model).requires_grad_(False)
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)


@torch.no_grad()
def update_average(decay=0.95):
    for kept, new in zip(average.state_dict().values(), model.state_dict().values()):
        if kept.is_floating_point():
            kept.mul_(decay).add_(new, alpha=1 - decay)
        else:
            kept.copy_(new)


def accuracy(net):
    net.eval()
    hits = 0
    with torch.no_grad():
        for x, y in valid_loader:
            hits += int((net(x).argmax(-1) == y).sum())
    return hits / 120


for epoch in range(4):
    model.train()
    for x, y in train_loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        update_average()
    print(epoch, accuracy(model), accuracy(average))
