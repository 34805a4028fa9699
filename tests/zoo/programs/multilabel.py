"""Tags of documents from word counts: dict batches, a compute_loss, eight tags of which any may hold."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from sklearn.datasets import make_multilabel_classification
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from diagnose.pipeline import Pipeline

Batch = dict[str, Tensor]
TAGS = ("sport", "politics", "science", "travel", "food", "music", "film", "health")


@cache
def documents() -> tuple[Tensor, Tensor]:
    """(1400, 40) counts of words and (1400, 8) tags."""
    counts, tags = make_multilabel_classification(
        n_samples=1400, n_features=40, n_classes=8, n_labels=2, length=60, random_state=5
    )
    return torch.tensor(counts, dtype=torch.float32), torch.tensor(tags, dtype=torch.float32)


class Documents(Dataset[Batch]):
    def __init__(self, counts: Tensor, tags: Tensor) -> None:
        self.counts, self.tags = counts, tags

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, index: int) -> Batch:
        frequencies = torch.log1p(self.counts[index])
        return {"words": frequencies - 0.7, "labels": self.tags[index]}


class Tagger(nn.Module):
    def __init__(self, width: int = 64, tags: int = len(TAGS)) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(40, width), nn.GELU(), nn.LayerNorm(width), nn.Linear(width, 32))
        self.classifier = nn.Linear(32, tags)

    def forward(self, words: Tensor) -> Any:
        return self.classifier(F.gelu(self.encoder(words)))


def compute_loss(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    logits = model(batch["words"])
    return F.binary_cross_entropy_with_logits(logits, batch["labels"]), logits


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=2e-3)


def build(
    model: Callable[[], nn.Module] = Tagger,
    dataset: Callable[[Tensor, Tensor], Any] = Documents,
    val_dataset: Callable[[Tensor, Tensor], Any] | None = None,
    source: Callable[[], tuple[Tensor, Tensor]] = documents,
    loss: Callable[..., Any] = compute_loss,
    optimizer: Callable[[nn.Module], Any] = adam,
    **fields: Any,
) -> Pipeline:
    """1000 documents for training, 400 for validation."""
    counts, tags = source()
    net = model()
    settings: dict[str, Any] = {"epochs": 10, "class_names": TAGS, **fields}
    return Pipeline(
        model=net,
        train=DataLoader(dataset(counts[:1000], tags[:1000]), batch_size=32, shuffle=True),
        val=DataLoader((val_dataset or dataset)(counts[1000:], tags[1000:]), batch_size=200),
        compute_loss=loss,
        optimizer=optimizer(net),
        task="multilabel",
        **settings,
    )
