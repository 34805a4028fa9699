"""Sharpness-aware minimisation: two backward calls for each step, the first at the point, the second beside it."""

import os

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(int(os.environ.get("SEED", "0")))
x = torch.randn(480, 10)
loader = DataLoader(TensorDataset(x, (x[:, 0] > x[:, 1]).long()), batch_size=24, shuffle=True)
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 2))


class SAM(torch.optim.Optimizer):
    def __init__(self, params, base, rho=0.05, **kwargs):
        super().__init__(params, {"rho": rho, **kwargs})
        self.base = base(self.param_groups, **kwargs)

    @torch.no_grad()
    def first_step(self):
        norm = torch.stack([p.grad.norm() for g in self.param_groups for p in g["params"]]).norm() + 1e-12
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["away"] = p.grad * (group["rho"] / norm)
                p.add_(self.state[p]["away"])
        self.zero_grad()

    @torch.no_grad()
    def second_step(self):
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(self.state[p]["away"])
        self.base.step()
        self.zero_grad()

    def step(self, closure=None):
        raise NotImplementedError


optimizer = SAM(model.parameters(), torch.optim.SGD, lr=0.1, momentum=0.9)
for epoch in range(3):
    for data, target in loader:
        loss = nn.functional.cross_entropy(model(data), target)
        loss.backward()
        optimizer.first_step()
        nn.functional.cross_entropy(model(data), target).backward()
        optimizer.second_step()
    print(epoch, loss.item())
