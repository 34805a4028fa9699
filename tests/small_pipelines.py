"""Healthy pipelines, small, written as different users write them: the base of every faulty case.

A fault is one of these plus one change. Each ``..._base`` takes what a test may change as keyword arguments.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from diagnose.pipeline import Pipeline

Make = Callable[[], Pipeline]


@cache
def digits_tensors() -> tuple[Tensor, Tensor]:
    """(1797, 1, 8, 8) images from 0 to 1, and their classes."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return torch.tensor(data.images / 16.0, dtype=torch.float32).unsqueeze(1), torch.tensor(data.target)


def cnn(batchnorm: bool = False) -> nn.Sequential:
    norm = nn.BatchNorm2d if batchnorm else (lambda channels: nn.Identity())
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), norm(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), norm(16), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


class Images(Dataset[tuple[Tensor, int]]):
    """Images with a transform, as a data set of files would be written."""

    def __init__(self, images: Tensor, labels: Tensor, transform: Callable[[Tensor], Tensor] | None = None) -> None:
        self.images, self.labels, self.transform = images, labels, transform
        self.classes = [str(digit) for digit in range(10)]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.images[index]
        return (self.transform(image) if self.transform else image), int(self.labels[index])


def shifted(image: Tensor) -> Tensor:
    """Random augmentation: a shift by up to two pixels, filled with zeros, and some noise."""
    dy, dx = (int(v) for v in torch.randint(-1, 2, (2,)))
    padded = F.pad(image, (1, 1, 1, 1))[:, 1 + dy : 9 + dy, 1 + dx : 9 + dx]
    return padded + 0.05 * torch.randn_like(padded)


def digits_cnn(
    batchnorm: bool = False,
    model: Callable[[], nn.Module] | None = None,
    images: Callable[[Tensor], Tensor] = lambda x: x,
    labels: Callable[[Tensor], Tensor] = lambda y: y,
    val_images: Callable[[Tensor], Tensor] = lambda x: x,
    transform: Callable[[Tensor], Tensor] | None = None,
    loss: Any = None,
    optimizer: Callable[[nn.Module], Any] | None = None,
    shuffle: bool = True,
    n: int = 512,
    **fields: Any,
) -> Pipeline:
    """A plain CNN on the digits of scikit-learn: 512 for training, 256 for validation."""
    x, y = digits_tensors()
    train = Images(images(x[:n]), labels(y[:n]), transform)
    val = Images(val_images(images(x[1200:1456])), labels(y[1200:1456]))
    net = model() if model else cnn(batchnorm)
    defaults: dict[str, Any] = {
        "train": DataLoader(train, batch_size=32, shuffle=shuffle),
        "val": DataLoader(val, batch_size=64),
        "loss": loss or nn.CrossEntropyLoss(),
        "optimizer": optimizer(net) if optimizer else torch.optim.Adam(net.parameters(), lr=1e-3),
        "num_classes": 10,
    }
    return Pipeline(net, **(defaults | fields))


def digits_augmented() -> Pipeline:
    """BatchNorm, SGD with momentum, one-cycle, augmentation on train only, label smoothing."""
    net = cnn(batchnorm=True)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=16 * 10)
    return digits_cnn(
        model=lambda: net,
        transform=shifted,
        loss=nn.CrossEntropyLoss(label_smoothing=0.1),
        optimizer=lambda _: optimizer,
        scheduler=schedule,
        scheduler_interval="step",
    )


def tabular_mlp() -> Pipeline:
    """Eight features, two of them binary and repeated often, two imbalanced classes, one logit."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(600, 8, generator=g)
    x[:, 6:] = (x[:, 6:] > 0).float()
    y = ((x[:, 0] + x[:, 1] * x[:, 6]) > 1.0).float().unsqueeze(1)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 1))
    return Pipeline(
        model,
        DataLoader(TensorDataset(x[:480], y[:480]), batch_size=48, shuffle=True, drop_last=True),
        DataLoader(TensorDataset(x[480:], y[480:]), batch_size=120),
        loss=nn.BCEWithLogitsLoss(pos_weight=torch.tensor([4.0])),
        optimizer=torch.optim.AdamW(model.parameters(), lr=3e-3),
    )


def discrete_table() -> Pipeline:
    """Four features of three values: rows repeat, within and across the splits, by nature."""
    g = torch.Generator().manual_seed(1)
    x = torch.randint(0, 3, (400, 4), generator=g).float()
    y = (x.sum(1) > 4).long()
    model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 2))
    return Pipeline(
        model,
        DataLoader(TensorDataset(x[:300], y[:300]), batch_size=25, shuffle=True),
        DataLoader(TensorDataset(x[300:], y[300:]), batch_size=100),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        loss=F.cross_entropy,
    )


def regression() -> Pipeline:
    """Unscaled targets, batches from a list, no shuffling, a warm-up from zero."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(320, 5, generator=g)
    y = 30 + 12 * (x @ torch.tensor([[1.0], [-2.0], [0.5], [0.0], [1.0]])) + torch.randn(320, 1, generator=g)
    model = nn.Sequential(nn.Linear(5, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    return Pipeline(
        model,
        [(x[i : i + 32], y[i : i + 32]) for i in range(0, 256, 32)],
        [(x[256:], y[256:])],
        loss=nn.MSELoss(),
        optimizer=optimizer,
        scheduler=torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 20)),
        scheduler_interval="step",
    )


class TextClassifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 16, padding_idx=0)
        self.lstm = nn.LSTM(16, 24, batch_first=True)
        self.head = nn.Linear(24, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        lengths = (tokens != 0).sum(1).clamp_min(1)
        out, _ = self.lstm(self.embedding(tokens))
        last: Tensor = self.head(out[torch.arange(len(tokens)), lengths - 1])
        return last


def text() -> Pipeline:
    """Ragged token sequences, padded in collate_fn."""
    g = torch.Generator().manual_seed(0)
    samples = []
    for _ in range(300):
        label = int(torch.randint(0, 3, (1,), generator=g))
        length = int(torch.randint(4, 12, (1,), generator=g))
        tokens = torch.randint(1, 50, (length,), generator=g)
        tokens[-1] = 40 + label
        samples.append((tokens, label))

    def collate(batch: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
        return nn.utils.rnn.pad_sequence([t for t, _ in batch], batch_first=True), torch.tensor([y for _, y in batch])

    model = TextClassifier()
    return Pipeline(
        model,
        DataLoader(samples[:240], batch_size=24, shuffle=True, collate_fn=collate),  # type: ignore[arg-type]
        DataLoader(samples[240:], batch_size=30, collate_fn=collate),  # type: ignore[arg-type]
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
        clip_grad_norm=1.0,
        num_classes=3,
    )


class TinyTransformer(nn.Module):
    """Tied output weights, learned positions, pre-norm, zero-initialised output of each branch."""

    def __init__(self, vocabulary: int = 30, width: int = 32, length: int = 12) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.randn(length, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width) for _ in range(2))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.tokens(input_ids) + self.positions[: input_ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x))
        return logits


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        nn.init.zeros_(self.mlp[2].weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], device=x.device)
        y = self.norm1(x)
        x = x + self.attention(y, y, y, attn_mask=mask, need_weights=False)[0]
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


def language_model() -> Pipeline:
    """Dict batches, a compute_loss that flattens, per-group weight decay, warm-up and cosine."""
    g = torch.Generator().manual_seed(0)
    start = torch.randint(0, 30, (256, 1), generator=g)
    rows = (start + torch.arange(13) * torch.randint(1, 4, (256, 1), generator=g)) % 30
    batches = [{"input_ids": r[:, :-1], "labels": r[:, 1:].contiguous()} for r in rows.split(16)]
    model = TinyTransformer()
    decay = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decay, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)

    def shape(step: int) -> float:
        return min(1.0, step / 12) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / 140)))

    def compute_loss(net: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        logits = net(batch["input_ids"])
        return F.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten()), logits

    return Pipeline(
        model,
        batches[:14],
        batches[14:],
        compute_loss=compute_loss,
        optimizer=optimizer,
        scheduler=torch.optim.lr_scheduler.LambdaLR(optimizer, shape),
        scheduler_interval="step",
        task="language-model",
    )


def segmentation() -> Pipeline:
    """Two classes and a border that is ignored (255); BatchNorm; a fully convolutional model."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(96, 3, 16, 16, generator=g)
    x = F.avg_pool2d(x, 3, stride=1, padding=1)
    y = (x[:, 0] > 0.1).long()
    y[:, 0] = 255
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 1))
    return Pipeline(
        model,
        DataLoader(TensorDataset(x[:64], y[:64]), batch_size=8, shuffle=True),
        DataLoader(TensorDataset(x[64:], y[64:]), batch_size=8),
        loss=nn.CrossEntropyLoss(ignore_index=255),
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
        num_classes=2,
    )


def multilabel() -> Pipeline:
    """Four labels that may all hold, from images; a tuple output with an auxiliary head that the loss leaves out."""

    class TwoHeads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU())
            self.head, self.aux = nn.Linear(32, 4), nn.Linear(32, 4)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            features = self.body(x)
            return self.head(features), self.aux(features)

    images, digits = digits_tensors()
    y = torch.stack([digits % 2 == 0, digits > 4, digits % 3 == 0, digits < 2], 1).float()
    model = TwoHeads()
    return Pipeline(
        model,
        DataLoader(TensorDataset(images[:512], y[:512]), batch_size=32, shuffle=True),
        DataLoader(TensorDataset(images[1200:1400], y[1200:1400]), batch_size=50),
        loss=nn.BCEWithLogitsLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=2e-3),
    )


def fine_tuning() -> Pipeline:
    """A frozen backbone under a new head, the optimizer over what is trainable, splits by index of one data set."""

    class Tuned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = nn.Sequential(*list(cnn(batchnorm=True))[:-1])
            self.backbone.requires_grad_(False)
            self.fc = nn.Linear(64, 10)

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                features = self.backbone(x)
            logits: Tensor = self.fc(features)
            return logits

    data = Images(*digits_tensors())
    model = Tuned()
    return Pipeline(
        model,
        DataLoader(Subset(data, range(600)), batch_size=40, shuffle=True),
        DataLoader(Subset(data, range(600, 900)), batch_size=100),
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=0.1, momentum=0.9),
        num_classes=10,
    )


def own_step() -> Pipeline:
    """The user's own training step: two optimizers, gradients cleared at the end, a plain number returned."""
    net = cnn()
    head = torch.optim.Adam(net[-1].parameters(), lr=1e-3)
    body = torch.optim.Adam(net[:-1].parameters(), lr=1e-3)

    def train_step(model: nn.Module, batch: Any, optimizer: Any) -> float:
        x, y = batch
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for one in (optimizer, body):
            one.step()
            one.zero_grad()
        return float(loss.detach())

    return digits_cnn(model=lambda: net, optimizer=lambda _: head, loss=None, train_step=train_step)


def plain_cnn() -> Pipeline:
    return digits_cnn()


HEALTHY: tuple[Make, ...] = (
    plain_cnn,
    digits_augmented,
    tabular_mlp,
    discrete_table,
    regression,
    text,
    language_model,
    segmentation,
    multilabel,
    fine_tuning,
    own_step,
)
