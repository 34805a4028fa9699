"""A toy diffusion model: noise prediction on two moons, EMA weights, an infinite loader, samples at the end."""

import copy
import os

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import make_moons
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(int(os.environ.get("SEED", 0)))
TIMESTEPS = 50
TRAIN_STEPS = 600
BATCH = 128


class SinusoidalPosEmb(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def forward(self, t):
        half = self.dim // 2
        freqs = torch.exp(-torch.arange(half, device=t.device) * (torch.log(torch.tensor(10000.0)) / (half - 1)))
        args = t[:, None].float() * freqs[None]
        return torch.cat([args.sin(), args.cos()], dim=-1)


class Denoiser(nn.Module):
    def __init__(self, dim=64):
        super().__init__()
        self.time_mlp = nn.Sequential(SinusoidalPosEmb(32), nn.Linear(32, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.inp = nn.Linear(2, dim)
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(dim, dim), nn.SiLU()) for _ in range(3)])
        self.out = nn.Linear(dim, 2)

    def forward(self, x, t):
        temb = self.time_mlp(t)
        h = self.inp(x)
        for block in self.blocks:
            h = h + block(h + temb)
        return self.out(h)


class GaussianDiffusion:
    def __init__(self, timesteps):
        self.timesteps = timesteps
        self.betas = torch.linspace(1e-4, 0.1, timesteps)
        self.alphas = 1.0 - self.betas
        self.alphas_cumprod = torch.cumprod(self.alphas, dim=0)

    def q_sample(self, x0, t, noise):
        a = self.alphas_cumprod[t].sqrt()[:, None]
        s = (1 - self.alphas_cumprod[t]).sqrt()[:, None]
        return a * x0 + s * noise

    def p_losses(self, model, x0):
        t = torch.randint(0, self.timesteps, (x0.shape[0],))
        noise = torch.randn_like(x0)
        x_noisy = self.q_sample(x0, t, noise)
        predicted = model(x_noisy, t)
        return F.mse_loss(predicted, noise)

    @torch.no_grad()
    def sample(self, model, n):
        x = torch.randn(n, 2)
        for i in reversed(range(self.timesteps)):
            t = torch.full((n,), i)
            eps = model(x, t)
            mean = (x - self.betas[i] / (1 - self.alphas_cumprod[i]).sqrt() * eps) / self.alphas[i].sqrt()
            x = mean + (self.betas[i].sqrt() * torch.randn_like(x) if i > 0 else 0)
        return x


class EMA:
    def __init__(self, model, decay=0.99):
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model):
        for ema_p, p in zip(self.model.parameters(), model.parameters(), strict=True):
            ema_p.mul_(self.decay).add_(p, alpha=1 - self.decay)


def cycle(loader):
    while True:
        yield from loader


points, _ = make_moons(2000, noise=0.05, random_state=0)
points = torch.tensor(points, dtype=torch.float32)
points = (points - points.mean(0)) / points.std(0)
loader = DataLoader(TensorDataset(points), batch_size=BATCH, shuffle=True, drop_last=True)

diffusion = GaussianDiffusion(TIMESTEPS)
model = Denoiser()
ema = EMA(model)
opt = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.0)
sched = torch.optim.lr_scheduler.CosineAnnealingLR(opt, T_max=TRAIN_STEPS)
batches = cycle(loader)

running = 0.0
for step in range(1, TRAIN_STEPS + 1):
    (x0,) = next(batches)
    loss = diffusion.p_losses(model, x0)
    opt.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    opt.step()
    sched.step()
    ema.update(model)
    running += loss.item()
    if step % 100 == 0:
        print(f"step {step} loss {running / 100:.4f}")
        running = 0.0

samples = diffusion.sample(ema.model, 256)
distance = torch.cdist(samples, points).min(dim=1).values.mean()
print(f"mean distance of a sample to the data {distance:.3f}")
