"""Two tasks, each with a loader of its own, on one trunk: the sum of two losses is trained."""

import itertools
import os

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(int(os.environ.get("SEED", "0")))
x = torch.randn(600, 12)
kinds = DataLoader(TensorDataset(x[:300], x[:300, :3].argmax(1)), batch_size=20, shuffle=True)
sizes = DataLoader(TensorDataset(x[300:500], x[300:500, :4].sum(1, keepdim=True)), batch_size=20, shuffle=True)


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(12, 48), nn.ReLU(), nn.Linear(48, 32), nn.ReLU())
        self.heads = nn.ModuleDict({"kind": nn.Linear(32, 3), "size": nn.Linear(32, 1)})

    def forward(self, x, task):
        return self.heads[task](self.trunk(x))


model = TwoHeads()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for epoch in range(6):
    for (a, kind), (b, size) in zip(kinds, itertools.cycle(sizes), strict=False):
        optimizer.zero_grad()
        first = nn.functional.cross_entropy(model(a, "kind"), kind)
        second = nn.functional.mse_loss(model(b, "size"), size)
        (first + 0.5 * second).backward()
        optimizer.step()
    with torch.no_grad():
        right = (model(x[500:], "kind").argmax(1) == x[500:, :3].argmax(1)).float().mean()
    print(epoch, first.item(), second.item(), right.item())
