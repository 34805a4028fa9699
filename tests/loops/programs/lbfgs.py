"""LBFGS with a closure on all data at once."""

import os

import torch
from torch import nn

torch.manual_seed(int(os.environ.get("SEED", "0")))
t = torch.linspace(0, 6, 200).view(-1, 1)
wave = torch.sin(t) + 0.05 * torch.randn(200, 1)
net = nn.Sequential(nn.Linear(1, 20), nn.Tanh(), nn.Dropout(0.0), nn.Linear(20, 1))
optimizer = torch.optim.LBFGS(net.parameters(), lr=0.5, max_iter=4)
history = []


def closure():
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(net(t), wave)
    loss.backward()
    return loss


for i in range(40):
    loss = optimizer.step(closure)
    history.append(loss.item())
print(history[0], history[-1])
