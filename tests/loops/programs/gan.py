"""A GAN on points of a ring: two optimizers that take turns."""

# ruff: noqa
# fmt: off
import os

import torch
from torch import nn

torch.manual_seed(int(os.environ.get("SEED", "0")))


def real(n):
    angle = torch.rand(n) * 2 * torch.pi
    return torch.stack([angle.cos(), angle.sin()], 1) + 0.05 * torch.randn(n, 2)


generator = nn.Sequential(nn.Linear(8, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
critic = nn.Sequential(nn.Linear(2, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))
opt_g = torch.optim.Adam(generator.parameters(), lr=1e-3, betas=(0.5, 0.999))
opt_d = torch.optim.Adam(critic.parameters(), lr=1e-3, betas=(0.5, 0.999))
bce = nn.BCEWithLogitsLoss()
fixed = torch.randn(256, 8)
history = {"d": [], "g": []}
for step in range(500):
    batch = real(64)
    fake = generator(torch.randn(64, 8))

    opt_d.zero_grad()
    loss_real = bce(critic(batch), torch.full((64, 1), 0.9))
    loss_real.backward()
    loss_fake = bce(critic(fake.detach()), torch.zeros(64, 1))
    loss_fake.backward()
    opt_d.step()

    opt_g.zero_grad()
    loss_g = bce(critic(fake), torch.ones(64, 1))
    loss_g.backward()
    opt_g.step()

    history["d"].append((loss_real + loss_fake).item())
    history["g"].append(loss_g.item())
    if step % 100 == 0:
        with torch.no_grad():
            radius = generator(fixed).norm(dim=1)
        print(step, history["d"][-1], history["g"][-1], radius.mean().item(), radius.std().item())
