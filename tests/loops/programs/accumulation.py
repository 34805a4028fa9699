"""Four batches for each step."""

import os

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(int(os.environ.get("SEED", "0")))
inputs = torch.randn(640, 12)
targets = inputs @ torch.randn(12, 1) + 0.1 * torch.randn(640, 1)
loader = DataLoader(TensorDataset(inputs, targets), batch_size=16, shuffle=True)
net = nn.Sequential(nn.Linear(12, 24), nn.Tanh(), nn.Linear(24, 1))
optim = torch.optim.SGD(net.parameters(), lr=0.05)
accumulation_steps = 4
for epoch in range(5):
    optim.zero_grad()
    for i, (x, y) in enumerate(loader):
        loss = F.mse_loss(net(x), y)
        (loss / accumulation_steps).backward()
        if (i + 1) % accumulation_steps == 0:
            optim.step()
            optim.zero_grad()
    print(epoch, loss.item())
