"""Healthy pipelines that look faulty to a hasty probe: zero-initialised parts, unusual losses, torchvision."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from small_pipelines import cnn, digits_cnn, digits_tensors
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from diagnose.pipeline import Pipeline


def mlp(*widths: int, activation: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), activation()]
    return nn.Sequential(*layers[:-1])


class Residual(nn.Module):
    """Zero-initialised last gamma, a ReZero factor, and a zero-initialised head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, padding=1)
        self.branch = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(inplace=True),
                                    nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16))  # fmt: skip
        nn.init.zeros_(self.branch[4].weight)  # type: ignore[arg-type]
        self.inner, self.alpha = nn.Linear(16, 16), nn.Parameter(torch.zeros(1))
        self.head = nn.Linear(16, 10)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(x + self.branch(x)).mean((2, 3))
        out: Tensor = self.head(x + self.alpha * F.relu(self.inner(x)))
        return out


class LoRA(nn.Module):
    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.a = nn.Parameter(torch.randn(4, base.in_features) * 0.1)
        self.b = nn.Parameter(torch.zeros(base.out_features, 4))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.base(x) + x @ self.a.T @ self.b.T
        return out


def zero_init_residual() -> Pipeline:
    return digits_cnn(model=Residual)


def lora() -> Pipeline:
    body = nn.Sequential(nn.Flatten(), LoRA(nn.Linear(64, 32)), nn.ReLU(), LoRA(nn.Linear(32, 10)))
    trainable = [p for p in body.parameters() if p.requires_grad]
    return digits_cnn(model=lambda: body, optimizer=lambda _: torch.optim.AdamW(trainable, lr=1e-2), n=256)


def focal_prior() -> Pipeline:
    """Ten yes-or-no heads with a prior of 1 %, and a focal loss of the user's own."""
    net = cnn(batchnorm=True)
    nn.init.zeros_(net[-1].weight)  # type: ignore[arg-type]
    nn.init.constant_(net[-1].bias, -4.6)  # type: ignore[arg-type]

    def focal(logits: Tensor, y: Tensor) -> Tensor:
        target = F.one_hot(y, 10).float()
        p = torch.sigmoid(logits)
        each = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        return (each * (target * (1 - p) + (1 - target) * p) ** 2).sum() / len(y)

    return digits_cnn(model=lambda: net, loss=focal)


def log_softmax_nll() -> Pipeline:
    return digits_cnn(model=lambda: nn.Sequential(cnn(), nn.LogSoftmax(dim=1)), loss=nn.NLLLoss())


def probabilities_with_own_log() -> Pipeline:
    return digits_cnn(
        model=lambda: nn.Sequential(cnn(), nn.Softmax(dim=1)), loss=lambda p, y: F.nll_loss(torch.log(p + 1e-8), y)
    )


def mixup() -> Pipeline:
    x, y = digits_tensors()
    other = torch.randperm(256)
    share = torch.rand(256, 1)
    hard = F.one_hot(y, 10).float()
    data = TensorDataset(
        share[:, :, None, None] * x[:256] + (1 - share[:, :, None, None]) * x[other],
        share * hard[:256] + (1 - share) * hard[other],
    )
    return digits_cnn(batchnorm=True, train=DataLoader(data, batch_size=4, shuffle=True), intents=("soft-targets",))


def linear_regression() -> Pipeline:
    x = torch.randn(128, 3)
    y = x @ torch.tensor([[1.0], [2.0], [3.0]])
    model = nn.Linear(3, 1)
    return Pipeline(model, DataLoader(TensorDataset(x, y), batch_size=16), loss=nn.MSELoss(),
                    optimizer=torch.optim.SGD(model.parameters(), lr=0.1))  # fmt: skip


class Inception(nn.Module):
    """A tuple output in train mode, with an auxiliary head; inputs from 0 to 255, normalised inside."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.aux = cnn(batchnorm=True)[:-1], nn.Linear(64, 10), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Any:
        x = self.body((x / 255 - 0.3) / 0.37)
        return (self.head(x), self.aux(x)) if self.training else self.head(x)


def tuple_output() -> Pipeline:
    def loss(output: Any, y: Tensor) -> Tensor:
        if isinstance(output, Tensor):
            return F.cross_entropy(output, y)
        return F.cross_entropy(output[0], y) + 0.4 * F.cross_entropy(output[1], y)

    return digits_cnn(model=Inception, images=lambda x: x * 255, loss=loss)


class Teacher(nn.Module):
    """A frozen average of itself, hidden from registration on purpose; dropout and sigmoid gates."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.gate = mlp(64, 64, 64), nn.Linear(64, 64)
        self.teacher = [copy.deepcopy(self.net).requires_grad_(False)]
        self.head, self.acts = nn.Linear(64, 10), [nn.ReLU()]

    def forward(self, x: Tensor) -> Tensor:
        features = self.acts[0](self.net(x))
        gated = features * torch.sigmoid(self.gate(features))
        out: Tensor = self.head(F.dropout(gated, 0.5, training=self.training))
        return out


def hidden_teacher() -> Pipeline:
    return digits_cnn(model=Teacher)


def contrastive() -> Pipeline:
    """Two views of each sample, told apart from the other samples of the batch."""

    def compute_loss(model: nn.Module, batch: Any) -> Tensor:
        x = batch[0]
        first, second = (F.normalize(model(x + 0.1 * torch.randn_like(x)), dim=1) for _ in range(2))
        return F.cross_entropy(first @ second.T / 0.1, torch.arange(len(x)))

    return digits_cnn(model=lambda: mlp(64, 64, 16), compute_loss=compute_loss, num_classes=None, task="custom")


class VAE(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = mlp(64, 32, 8), mlp(4, 32, 64)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.encoder(x).chunk(2, 1)
        z = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        return self.decoder(z), mean, log_variance


def vae() -> Pipeline:
    """A Gaussian likelihood with a small variance: the negative bound is below zero. Summed, under Adam."""

    def compute_loss(model: nn.Module, batch: Any) -> Tensor:
        x = batch[0]
        output, mean, log_variance = model(x)
        data = F.mse_loss(output, x.flatten(1), reduction="sum") - 200.0 * len(x)
        return data - 0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum()

    return digits_cnn(model=VAE, compute_loss=compute_loss, num_classes=None, task="custom")


def summed_under_adam() -> Pipeline:
    return digits_cnn(loss=nn.CrossEntropyLoss(reduction="sum"))


def cosine() -> Pipeline:
    x = torch.randn(128, 6)
    model = mlp(6, 32, 3)
    return Pipeline(
        model, DataLoader(TensorDataset(x, x[:, :3]), batch_size=16), optimizer=torch.optim.Adam(model.parameters()),
        loss=lambda out, y: -F.cosine_similarity(out, y).mean(),
    )  # fmt: skip


class WithLoss(nn.Module):
    """Takes its labels by keyword, shifts them itself, and returns a dict, as language models of libraries do."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 16)
        self.lstm, self.head = nn.LSTM(16, 32, batch_first=True), nn.Linear(32, 20)

    def forward(self, input_ids: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.head(self.lstm(self.embedding(input_ids))[0])
        out = {"logits": logits}
        if labels is not None:
            out["loss"] = F.cross_entropy(logits[:, :-1].reshape(-1, 20), labels[:, 1:].reshape(-1))
        return out


def library_language_model() -> Pipeline:
    tokens = torch.randint(0, 20, (64, 9))
    model = WithLoss()
    return Pipeline(model, [{"input_ids": t, "labels": t} for t in tokens.split(8)], task="language-model",
                    optimizer=torch.optim.AdamW(model.parameters(), lr=1e-3))  # fmt: skip


def from_torchvision(name: str) -> Callable[[], Pipeline]:
    def make() -> Pipeline:
        import torchvision

        model = getattr(torchvision.models, name)(weights=None, num_classes=20)
        data = TensorDataset(torch.randn(16, 3, 64, 64), torch.arange(16))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        return Pipeline(model, DataLoader(data, batch_size=8), optimizer=optimizer, num_classes=20)

    make.__module__, make.__name__ = __name__, name
    return make


SMALL = (
    zero_init_residual, lora, focal_prior, log_softmax_nll, probabilities_with_own_log, mixup, linear_regression,
    tuple_output, hidden_teacher, contrastive, vae, summed_under_adam, cosine, library_language_model,
)  # fmt: skip
