"""Healthy: several optimizers, and branches without gradient."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from diagnose.pipeline import Pipeline
from zoo.healthy.common import cases_of, digits, loaders


class RingGan(nn.Module):
    """Points on a ring of eight heaps; generator and discriminator side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.g = nn.Sequential(nn.Linear(4, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 2))
        self.d = nn.Sequential(
            nn.Linear(2, 48), nn.LeakyReLU(0.2), nn.Linear(48, 48), nn.LeakyReLU(0.2), nn.Linear(48, 1)
        )

    def forward(self, z: Tensor) -> Any:
        return self.g(z)


def ring_of_heaps() -> Tensor:
    g = torch.Generator().manual_seed(61)
    angle = torch.randint(0, 8, (1536,), generator=g) * math.pi / 4
    return torch.stack([angle.cos(), angle.sin()], 1) + 0.05 * torch.randn(1536, 2, generator=g)


def hinge_gan() -> Pipeline:
    """Hinge loss; the discriminator's optimizer is the pipeline's, the generator's is the step's own."""
    model = RingGan()
    opt_g = torch.optim.Adam(model.g.parameters(), lr=1e-3, betas=(0.5, 0.9))
    opt_d = torch.optim.Adam(model.d.parameters(), lr=2e-3, betas=(0.5, 0.9))

    def train_step(net: Any, batch: Any, optimizer: torch.optim.Optimizer) -> Any:
        (real,) = batch
        with torch.no_grad():
            fake = net(torch.randn(len(real), 4))
        loss_d = F.relu(1 - net.d(real)).mean() + F.relu(1 + net.d(fake)).mean()
        optimizer.zero_grad()
        loss_d.backward()
        optimizer.step()
        loss_g = -net.d(net(torch.randn(len(real), 4))).mean()
        opt_g.zero_grad()
        loss_g.backward()
        opt_g.step()
        return (loss_d + loss_g).detach()

    train = DataLoader(TensorDataset(ring_of_heaps()), batch_size=64, shuffle=True, drop_last=True)
    return Pipeline(
        model, train, optimizer=opt_d, train_step=train_step, task="custom", intents=("multiple-optimizers",)
    )


class ActorCritic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.actor = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 4))
        self.critic = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 1))

    def forward(self, state: Tensor) -> tuple[Tensor, Tensor]:
        return self.actor(state), self.critic(state).squeeze(-1)


def actor_critic() -> Pipeline:
    """A contextual bandit: each state comes with the reward of each of four actions; two optimizers."""
    g = torch.Generator().manual_seed(62)
    states = torch.randn(1600, 6, generator=g)
    rewards = (states @ torch.randn(6, 4, generator=g)).tanh() + 0.1 * torch.randn(1600, 4, generator=g)
    rows: Any = [{"state": s, "rewards": r} for s, r in zip(states, rewards, strict=True)]
    model = ActorCritic()
    of_critic = torch.optim.Adam(model.critic.parameters(), lr=1e-2)

    def train_step(net: nn.Module, batch: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> Any:
        logits, value = net(batch["state"])
        policy = torch.distributions.Categorical(logits=logits)
        action = policy.sample()
        reward = batch["rewards"].gather(1, action[:, None]).squeeze(1)
        advantage = (reward - value).detach()
        loss_actor = -(policy.log_prob(action) * advantage).mean() - 0.01 * policy.entropy().mean()
        loss_critic = F.mse_loss(value, reward)
        optimizer.zero_grad()
        of_critic.zero_grad()
        (loss_actor + loss_critic).backward()
        optimizer.step()
        of_critic.step()
        return (loss_actor + loss_critic).detach()

    return Pipeline(
        model, DataLoader(rows[:1280], 64, shuffle=True), DataLoader(rows[1280:], 160), train_step=train_step,
        optimizer=torch.optim.Adam(model.actor.parameters(), lr=5e-3), task="custom", intents=("multiple-optimizers",),
    )  # fmt: skip


def encoder(outputs: int = 48) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(256, outputs), nn.BatchNorm1d(outputs),
    )  # fmt: skip


def two_views(samples: list[Any]) -> tuple[Tensor, Tensor]:
    """Two shifted and noisy copies of each picture."""
    x = torch.stack([image for image, _ in samples])

    def view() -> Tensor:
        dy, dx = torch.randint(-1, 2, (2,)).tolist()
        return x.roll((dy, dx), (2, 3)) * (0.7 + 0.6 * torch.rand(len(x), 1, 1, 1)) + 0.15 * torch.randn_like(x)

    return view(), view()


def views() -> DataLoader[Any]:
    x, y = digits()
    data = TensorDataset(x[:1400], y[:1400])
    return DataLoader(data, batch_size=64, shuffle=True, drop_last=True, collate_fn=two_views)


class SimSiam(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = encoder()
        self.predictor = nn.Sequential(nn.Linear(48, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 48))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        za, zb = self.encoder(a), self.encoder(b)
        pa, pb = self.predictor(za), self.predictor(zb)
        return -(F.cosine_similarity(pa, zb.detach()) + F.cosine_similarity(pb, za.detach())).mean() / 2


def simsiam() -> Pipeline:
    """The loss is negative; the branch that is aimed at has no gradient."""

    def compute_loss(model: nn.Module, batch: Any) -> Any:
        return model(*batch)

    model = SimSiam()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    return Pipeline(model, views(), optimizer=optimizer, compute_loss=compute_loss, task="custom")


class Byol(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.online = encoder()
        self.target = copy.deepcopy(self.online)
        self.predictor = nn.Sequential(nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, 48))
        for parameter in self.target.parameters():
            parameter.requires_grad_(False)

    def forward(self, x: Tensor) -> Any:
        return self.online(x)


def byol() -> Pipeline:
    """The target follows by a moving average, inside the step."""
    model = Byol()

    def train_step(net: Any, batch: Any, optimizer: torch.optim.Optimizer) -> Any:
        loss = torch.zeros(())
        for seen, aim in itertools.permutations(batch):
            with torch.no_grad():
                wanted = net.target(aim)
            loss = loss + 2 - 2 * F.cosine_similarity(net.predictor(net.online(seen)), wanted).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(net.target.parameters(), net.online.parameters(), strict=True):
                slow.lerp_(fast, 0.02)
        return loss.detach()

    trained = [*model.online.parameters(), *model.predictor.parameters()]
    optimizer = torch.optim.Adam(trained, lr=2e-3)
    return Pipeline(model, views(), optimizer=optimizer, train_step=train_step, task="custom")


class Vae(nn.Module):
    """Samples in training; in validation the mean is decoded."""

    def __init__(self, latent: int = 8) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Flatten(), nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 2 * latent))
        self.decode = nn.Sequential(nn.Linear(latent, 96), nn.ReLU(), nn.Linear(96, 64))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_var = self.encode(x).chunk(2, 1)
        z = mean + torch.randn_like(mean) * (0.5 * log_var).exp() if self.training else mean
        return self.decode(z).view_as(x), mean, log_var


def variational_autoencoder() -> Pipeline:
    """The negative ELBO, summed over the pixels, averaged over the batch."""

    def compute_loss(model: nn.Module, batch: Any) -> Any:
        x = batch[0]
        logits, mean, log_var = model(x)
        reconstruction = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
        kl = -0.5 * (1 + log_var - mean**2 - log_var.exp()).sum(1).mean()
        return reconstruction + kl

    model = Vae()
    return Pipeline(
        model, *loaders(*digits(), 1400), optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
        compute_loss=compute_loss, task="custom",
    )  # fmt: skip


CASES = cases_of(hinge_gan, actor_critic, simsiam, byol, variational_autoencoder)
