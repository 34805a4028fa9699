"""Accelerate prepares model, optimizer and loaders; gradients are accumulated under its context."""

import os

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

set_seed(int(os.environ.get("SEED", "0")))
accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
x = torch.randn(480, 8)
y = (x[:, 0] > 0).long()
model = nn.Sequential(nn.Linear(8, 24), nn.ReLU(), nn.Dropout(0.1), nn.Linear(24, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
train_loader = DataLoader(TensorDataset(x[:400], y[:400]), batch_size=20, shuffle=True)
eval_loader = DataLoader(TensorDataset(x[400:], y[400:]), batch_size=40)
model, optimizer, train_loader, eval_loader = accelerator.prepare(model, optimizer, train_loader, eval_loader)
for epoch in range(4):
    model.train()
    for data, target in train_loader:
        with accelerator.accumulate(model):
            loss = nn.functional.cross_entropy(model(data), target)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
    model.eval()
    hits = 0
    for data, target in eval_loader:
        with torch.no_grad():
            predictions = model(data).argmax(dim=-1)
        predictions, target = accelerator.gather_for_metrics((predictions, target))
        hits += (predictions == target).sum().item()
    accelerator.print(epoch, loss.item(), hits / 80)
