"""Healthy: models whose outputs, inputs or parts are not one tensor."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset, default_collate

from diagnose.pipeline import Pipeline
from zoo.healthy.common import cases_of, digits, loaders, shapes, table


class Trunk(nn.Module):
    """Features of a picture: (N, 3, 16, 16) to (N, 48), and those halfway."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.low = nn.Sequential(nn.Conv2d(channels, 12, 3, 2, 1, bias=False), nn.GroupNorm(3, 12), nn.ReLU())
        self.high = nn.Sequential(nn.Conv2d(12, 12, 3, 1, 1, bias=False), nn.GroupNorm(3, 12), nn.ReLU())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        low = self.low(x)
        return low, F.adaptive_avg_pool2d(self.high(low), 2).flatten(1)


def adam(model: nn.Module, lr: float = 5e-3) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=lr)


class WithFeatures(nn.Module):
    """Returns (logits, features), as models for metric learning do."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.fc = Trunk(), nn.Linear(48, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(x)[1]
        return self.fc(features), features


def tuple_output() -> Pipeline:
    def loss(output: tuple[Tensor, Tensor], target: Tensor) -> Tensor:
        return F.cross_entropy(output[0], target)

    model = WithFeatures()
    return Pipeline(model, *loaders(*shapes(), 900), loss, adam(model, 3e-3), num_classes=5)


Heads = namedtuple("Heads", ["logits", "aux_logits"])


class Auxiliary(nn.Module):
    """A second head halfway, in training alone, as Inception and GoogLeNet have it."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.fc = Trunk(), nn.Linear(48, 5)
        self.aux = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(48, 5))

    def forward(self, x: Tensor) -> Any:
        low, features = self.trunk(x)
        logits = self.fc(features)
        return Heads(logits, self.aux(low)) if self.training else logits


def namedtuple_with_auxiliary_loss() -> Pipeline:
    def compute_loss(net: nn.Module, batch: Any) -> Any:
        images, labels = batch
        out = net(images)
        if isinstance(out, Heads):
            return F.cross_entropy(out.logits, labels) + 0.4 * F.cross_entropy(out.aux_logits, labels), out.logits
        return F.cross_entropy(out, labels), out

    model = Auxiliary()
    return Pipeline(
        model, *loaders(*shapes(), 900), optimizer=adam(model, 3e-3), compute_loss=compute_loss, num_classes=5
    )


class Spare(nn.Module):
    """Has a head for a task of another day, never called here."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.fc = Trunk(1), nn.Linear(48, 10)
        self.rotation_head = nn.Linear(48, 4)

    def forward(self, x: Tensor, pretext: bool = False) -> Any:
        features = self.trunk(x)[1]
        return self.rotation_head(features) if pretext else self.fc(features)


def unused_auxiliary_head() -> Pipeline:
    model = Spare()
    return Pipeline(model, *loaders(*digits(), 1300, 40), nn.CrossEntropyLoss(), adam(model), num_classes=10)


class DictOut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(30, 24), nn.ReLU(), nn.Dropout(0.1))
        self.score = nn.Linear(24, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        hidden = self.encoder(x)
        return {"logits": self.score(hidden).squeeze(1), "hidden": hidden}


def dict_output() -> Pipeline:
    def criterion(output: dict[str, Tensor], target: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(output["logits"], target)

    x, y = table("breast_cancer")
    model = DictOut()
    return Pipeline(model, *loaders(x, y.float(), 420, 20), criterion, adam(model))


@dataclass
class Prediction:
    logits: Tensor
    confidence: Tensor


class DataclassOut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(13, 32), nn.Tanh(), nn.Linear(32, 3))

    def forward(self, x: Tensor) -> Prediction:
        logits = self.net(x)
        return Prediction(logits, logits.detach().softmax(-1).amax(-1))


def dataclass_output() -> Pipeline:
    def compute_loss(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        prediction = model(batch[0])
        return F.cross_entropy(prediction.logits, batch[1]), prediction.logits

    x, y = table("wine")
    model = DataclassOut()
    return Pipeline(model, *loaders(x, y, 128, 16), optimizer=adam(model), compute_loss=compute_loss, num_classes=3)


class ModelOutput(NamedTuple):
    loss: Tensor | None
    logits: Tensor


class ForClassification(nn.Module):
    """In the manner of the transformers library: labels in, loss out."""

    def __init__(self, vocabulary: int = 60, width: int = 32) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(vocabulary, width, padding_idx=0)
        self.dense, self.classifier = nn.Linear(width, width), nn.Linear(width, 2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor | None = None) -> ModelOutput:
        mask = attention_mask.unsqueeze(-1).float()
        pooled = (self.embeddings(input_ids) * mask).sum(1) / mask.sum(1)
        logits = self.classifier(torch.tanh(self.dense(pooled)))
        return ModelOutput(None if labels is None else F.cross_entropy(logits, labels), logits)


def model_returns_loss() -> Pipeline:
    """Dict batches with a mask, from a list of dicts."""
    g = torch.Generator().manual_seed(4)
    feeling = torch.randn(60, generator=g)
    rows = []
    for _ in range(1000):
        ids = torch.randint(1, 60, (12,), generator=g)
        length = int(torch.randint(5, 13, (1,), generator=g))
        ids[length:] = 0
        rows.append(
            {"input_ids": ids, "attention_mask": (ids > 0).long(), "labels": (feeling[ids[:length]].sum() > 0).long()}
        )
    model = ForClassification()
    train: DataLoader[Any] = DataLoader(rows[:800], batch_size=32, shuffle=True)  # type: ignore[arg-type]
    val: DataLoader[Any] = DataLoader(rows[800:], batch_size=100)  # type: ignore[arg-type]
    return Pipeline(model, train, val, optimizer=torch.optim.AdamW(model.parameters(), lr=5e-3), num_classes=2)


def dict_batches() -> Pipeline:
    """{"image", "label", "index"}, with a compute_loss; the index is for a look-up alone."""
    x, y = shapes()
    rows = [
        {"image": image, "label": int(label), "index": i} for i, (image, label) in enumerate(zip(x, y, strict=True))
    ]

    def compute_loss(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        logits, _ = model(batch["image"])
        return F.cross_entropy(logits, batch["label"]), logits

    model = WithFeatures()
    train: DataLoader[Any] = DataLoader(rows[:900], 36, shuffle=True, drop_last=True)  # type: ignore[arg-type]
    val: DataLoader[Any] = DataLoader(rows[900:], 100, collate_fn=default_collate)  # type: ignore[arg-type]
    return Pipeline(model, train, val, optimizer=adam(model, 3e-3), compute_loss=compute_loss, num_classes=5)


class PictureAndTable(nn.Module):
    """Two inputs: a picture, and four numbers without which some classes cannot be told."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = Trunk(1)
        self.facts = nn.Sequential(nn.Linear(4, 16), nn.ReLU())
        self.head = nn.Linear(64, 4)

    def forward(self, picture: Tensor, facts: Tensor) -> Any:
        return self.head(torch.cat([self.trunk(picture)[1], self.facts(facts)], dim=1))


def picture_and_table() -> Pipeline:
    x, y = digits()
    facts = torch.randn(len(y), 4, generator=torch.Generator().manual_seed(6))
    target = 2 * (y > 4).long() + (facts[:, 0] + 0.5 * facts[:, 1] > 0).long()
    train, val = (TensorDataset(x[s], facts[s], target[s]) for s in (slice(0, 1400), slice(1400, None)))
    model = PictureAndTable()
    return Pipeline(model, DataLoader(train, 32, shuffle=True), DataLoader(val, 64), nn.CrossEntropyLoss(), adam(model))


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.kind, self.brightness = Trunk(), nn.Linear(48, 5), nn.Linear(48, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(x)[1]
        return self.kind(features), self.brightness(features).squeeze(1)


def two_tasks() -> Pipeline:
    """Class and brightness; the targets are a dict."""
    x, y = shapes()
    light = x.mean((1, 2, 3))
    light = (light - light.mean()) / light.std()
    rows = [(x[i], {"kind": y[i], "light": light[i]}) for i in range(len(y))]

    def loss(output: tuple[Tensor, Tensor], target: dict[str, Tensor]) -> Tensor:
        return F.cross_entropy(output[0], target["kind"]) + F.smooth_l1_loss(output[1], target["light"])

    model = TwoHeads()
    train: DataLoader[Any] = DataLoader(rows[:900], 30, shuffle=True)  # type: ignore[arg-type]
    val: DataLoader[Any] = DataLoader(rows[900:], 100)  # type: ignore[arg-type]
    return Pipeline(model, train, val, loss, adam(model, 3e-3), task="custom")


class TiedAutoencoder(nn.Module):
    """The decoder's weight is the encoder's, transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(64, 24)
        self.bias = nn.Parameter(torch.zeros(64))

    def forward(self, x: Tensor) -> Tensor:
        code = torch.relu(self.encoder(x.flatten(1)))
        return F.linear(code, self.encoder.weight.t(), self.bias)


def tied_autoencoder() -> Pipeline:
    def compute_loss(model: nn.Module, batch: Any) -> Tensor:
        (x,) = batch
        return F.mse_loss(model(x), x.flatten(1))

    x = digits()[0]
    train = DataLoader(TensorDataset(x[:1400]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(x[1400:]), batch_size=64)
    model = TiedAutoencoder()
    return Pipeline(model, train, val, optimizer=adam(model, 2e-3), compute_loss=compute_loss, task="custom")


CASES = cases_of(
    tuple_output, namedtuple_with_auxiliary_loss, unused_auxiliary_head, dict_output, dataclass_output,
    model_returns_loss, dict_batches, picture_and_table, two_tasks, tied_autoencoder,
)  # fmt: skip
