"""A variational autoencoder of handwritten digits: the loss is the negative ELBO."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from diagnose import Pipeline
from zoo.cases import cases


@functools.lru_cache
def digits():
    x, _ = load_digits(return_X_y=True)
    return torch.tensor(x / 16, dtype=torch.float32)


class VAE(nn.Module):
    def __init__(self, latent=6, act=nn.ReLU):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 96), act(), nn.Linear(96, 48), act())
        self.mu, self.logvar = nn.Linear(48, latent), nn.Linear(48, latent)
        self.decoder = nn.Sequential(nn.Linear(latent, 48), act(), nn.Linear(48, 96), act(), nn.Linear(96, 64))

    def forward(self, x):
        h = self.encoder(x)
        mu, logvar = self.mu(h), self.logvar(h)
        z = mu + torch.randn_like(mu) * (0.5 * logvar).exp() if self.training else mu
        return self.decoder(z), mu, logvar


def divergence(mu, logvar):
    return -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1).mean()


def elbo(model, batch, beta=1.0):
    (x,) = batch
    out, mu, logvar = model(x)
    reconstruction = F.binary_cross_entropy_with_logits(out, x, reduction="none").sum(1).mean()
    return reconstruction + beta * divergence(mu, logvar)


def make(model=None, compute_loss=elbo, x=None, optimizer=None, batch=64, **rest):
    model = model if model is not None else VAE()
    x = digits() if x is None else x
    return Pipeline(
        model=model,
        train=DataLoader(TensorDataset(x[:1500]), batch_size=batch, shuffle=True),
        val=DataLoader(TensorDataset(x[1500:]), batch_size=99),
        compute_loss=compute_loss,
        optimizer=optimizer(model) if optimizer else torch.optim.Adam(model.parameters(), lr=2e-3),
        task="custom",
        epochs=12,
        **rest,
    )


def base():
    return make()


# faults


def pictures_to_sixteen():
    return make(x=digits() * 16)


def elbo_is_minimised():
    return make(compute_loss=lambda model, batch: -elbo(model, batch))


def beta_of_a_thousand():
    return make(compute_loss=lambda model, batch: elbo(model, batch, beta=2000.0))


def logarithm_of_a_raw_variance():
    def loss(model, batch):
        (x,) = batch
        out, mu, variance = model(x)
        reconstruction = F.binary_cross_entropy_with_logits(out, x, reduction="none").sum(1).mean()
        return reconstruction - 0.5 * (1 + variance.log() - mu**2 - variance).sum(1).mean()

    return make(compute_loss=loss)


def loss_of_each_sample():
    def loss(model, batch):
        (x,) = batch
        out, mu, logvar = model(x)
        return F.binary_cross_entropy_with_logits(out, x, reduction="none").sum(1) + divergence(mu, logvar)

    return make(compute_loss=loss)


def latent_is_detached():
    class Model(VAE):
        def forward(self, x):
            h = self.encoder(x)
            mu, logvar = self.mu(h), self.logvar(h)
            z = torch.normal(mu, (0.5 * logvar).exp()).detach() if self.training else mu.detach()
            return self.decoder(z), mu, logvar

    return make(Model(), compute_loss=lambda m, b: F.binary_cross_entropy_with_logits(m(b[0])[0], b[0]))


def pictures_divided_twice():
    return make(x=digits() / 255)


def second_layer_under_a_wrong_name():
    class Model(VAE):
        def __init__(self):
            super().__init__()
            self.decoder2 = nn.Sequential(nn.Linear(6, 48), nn.ReLU(), nn.Linear(48, 64))

    return make(Model())


# healthy


def warmed_up_beta():
    state = {"step": 0}

    def loss(model, batch):
        state["step"] += model.training
        return elbo(model, batch, beta=min(1.0, state["step"] / 100))

    return make(compute_loss=loss)


def gaussian_decoder():
    def loss(model, batch):
        (x,) = batch
        out, mu, logvar = model(x)
        # a density: with a fixed deviation of 0.1 the loss is below zero when it is good
        return (0.5 * ((out - x) / 0.1) ** 2 - 1.38).sum(1).mean() + divergence(mu, logvar)

    return make(compute_loss=loss)


def plain_autoencoder():
    def loss(model, batch):
        (x,) = batch
        return F.mse_loss(model.decoder(model.mu(model.encoder(x))), x)

    model = VAE()
    del model.logvar
    return make(model, compute_loss=loss)


def gan():
    """Two networks, two optimizers, the user's own step."""

    class Gan(nn.Module):
        def __init__(self):
            super().__init__()
            self.maker = nn.Sequential(nn.Linear(8, 48), nn.ReLU(), nn.Linear(48, 64))
            self.judge = nn.Sequential(nn.Linear(64, 48), nn.LeakyReLU(0.2), nn.Linear(48, 1))
            self.other = torch.optim.Adam(self.judge.parameters(), lr=1e-3, betas=(0.5, 0.999))

        def forward(self, z):
            return self.maker(z)

    model = Gan()

    def step(model, batch, optimizer):
        (x,) = batch
        fake = model(torch.randn(len(x), 8))
        bce = F.binary_cross_entropy_with_logits
        real, faked = model.judge(x), model.judge(fake.detach())
        model.other.zero_grad()
        (bce(real, torch.ones_like(real)) + bce(faked, torch.zeros_like(faked))).backward()
        model.other.step()
        optimizer.zero_grad()
        verdict = model.judge(fake)
        loss = bce(verdict, torch.ones_like(verdict))
        loss.backward()
        optimizer.step()
        return loss.detach()

    return make(
        model,
        compute_loss=None,
        optimizer=lambda m: torch.optim.Adam(m.maker.parameters(), lr=1e-3, betas=(0.5, 0.999)),
        train_step=step,
        intents=("multiple-optimizers",),
    )


CASES = cases(
    base,
    {
        pictures_to_sixteen: "target-outside-loss-domain",
        elbo_is_minimised: "loss-sign-flipped",
        beta_of_a_thousand: "regulariser-dominates",
        logarithm_of_a_raw_variance: ("nonfinite-loss", "unstable-log"),
        loss_of_each_sample: "loss-not-scalar",
        latent_is_detached: "graph-cut",
        pictures_divided_twice: ("inputs-normalised-twice", "inputs-not-normalised"),
        second_layer_under_a_wrong_name: "unused-parameters",
    },
    (warmed_up_beta, gaussian_decoder, plain_autoencoder, gan),
    structural=(
        pictures_to_sixteen,
        elbo_is_minimised,
        beta_of_a_thousand,
        logarithm_of_a_raw_variance,
        loss_of_each_sample,
        latent_is_detached,
        pictures_divided_twice,
        second_layer_under_a_wrong_name,
    ),
)
