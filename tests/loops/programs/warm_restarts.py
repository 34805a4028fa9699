"""Cosine annealing with warm restarts, stepped each batch; training accuracy is measured too."""

import os

import torch
from torch import nn, optim
from torch.utils.data import DataLoader, Subset, TensorDataset

torch.manual_seed(int(os.environ.get("SEED", "0")))
features = torch.randn(800, 16)
dataset = TensorDataset(features, features[:, :4].argmax(1))
train_loader = DataLoader(Subset(dataset, range(600)), batch_size=30, shuffle=True)
train_eval_loader = DataLoader(Subset(dataset, range(200)), batch_size=100)
test_loader = DataLoader(Subset(dataset, range(600, 800)), batch_size=100)
model = nn.Sequential(nn.Linear(16, 48), nn.ReLU(), nn.Dropout(0.1), nn.Linear(48, 4))
optimizer = optim.SGD(model.parameters(), lr=0.2, momentum=0.9, nesterov=True)
scheduler = optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=20, eta_min=1e-5)


def measure(loader):
    model.eval()
    with torch.inference_mode():
        return sum((model(x).argmax(1) == y).sum().item() for x, y in loader) / len(loader.dataset)


for epoch in range(6):
    model.train()
    for step, (x, y) in enumerate(train_loader):
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step(epoch + step / len(train_loader))
    print(epoch, loss.item(), measure(train_eval_loader), measure(test_loader))
