"""The training set grows from stage to stage, each with a loader of its own."""

import os

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

torch.manual_seed(int(os.environ.get("SEED", "0")))
signal = torch.randn(900, 10)
target = (signal[:, 0] + signal[:, 1] > 0).long()
hardness = (signal[:, 0] + signal[:, 1]).abs()
order = hardness[:700].argsort(descending=True).tolist()
everything = TensorDataset(signal, target)
held_out = DataLoader(Subset(everything, range(700, 900)), batch_size=100)
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 2))
optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)

for stage, share in enumerate((0.3, 0.6, 1.0)):
    easy = Subset(everything, order[: int(share * 700)])
    loader = DataLoader(easy, batch_size=35, shuffle=True)
    for epoch in range(4):
        for x, y in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        right = sum((model(x).argmax(1) == y).float().sum().item() for x, y in held_out)
    print(stage, len(easy), loss.item(), right / 200)
