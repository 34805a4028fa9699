"""Weights averaged over the last epochs; batch norm is calibrated anew by a pass over the training data."""

import os

import torch
from torch import nn
from torch.optim.swa_utils import SWALR, AveragedModel, update_bn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(int(os.environ.get("SEED", "0")))
x = torch.randn(500, 14)
y = (x[:, :2].sum(1) > 0).long()
train_loader = DataLoader(TensorDataset(x[:400], y[:400]), batch_size=40, shuffle=True)
test_loader = DataLoader(TensorDataset(x[400:], y[400:]), batch_size=50)
model = nn.Sequential(nn.Linear(14, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 2))
averaged = AveragedModel(model)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
swa_scheduler = SWALR(optimizer, swa_lr=0.05)
for epoch in range(6):
    model.train()
    for data, target in train_loader:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(data), target).backward()
        optimizer.step()
    if epoch >= 3:
        averaged.update_parameters(model)
        swa_scheduler.step()
update_bn(train_loader, averaged)
averaged.eval()
with torch.no_grad():
    print(sum((averaged(data).argmax(1) == target).sum().item() for data, target in test_loader) / 100)
