"""Topics of short messages: dict batches with a padding mask, a small transformer encoder that returns its own loss."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from diagnose.pipeline import Pipeline

PAD, UNKNOWN, FIRST_WORD = 0, 1, 2
VOCABULARY = 160
TOPICS = ("sport", "money", "weather", "music")
MAX_LENGTH = 24

Batch = dict[str, Tensor]
Document = dict[str, Any]
Documents = list[Document]


@cache
def messages() -> tuple[str, ...]:
    """1400 lines of JSON: words of a topic among words which every topic uses, 6 to 24 of them."""
    g = torch.Generator().manual_seed(11)
    lines = []
    for _ in range(1400):
        topic = int(torch.randint(len(TOPICS), (1,), generator=g))
        length = int(torch.randint(6, MAX_LENGTH + 1, (1,), generator=g))
        ids = torch.randint(FIRST_WORD + 60, VOCABULARY, (length,), generator=g)
        own = FIRST_WORD + 15 * topic + torch.randint(15, (length,), generator=g)
        other = FIRST_WORD + torch.randint(60, (length,), generator=g)
        kind = torch.rand(length, generator=g)
        ids = torch.where(kind < 0.28, own, torch.where(kind < 0.45, other, ids))
        lines.append(json.dumps({"ids": ids.tolist(), "topic": TOPICS[topic]}))
    return tuple(lines)


class Messages(Dataset[Document]):
    """Lines of JSON, parsed when asked for."""

    def __init__(self, lines: Sequence[str], topics: Sequence[str] = TOPICS) -> None:
        self.lines = list(lines)
        self.label_of = {name: i for i, name in enumerate(topics)}

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, index: int) -> Document:
        record = json.loads(self.lines[index])
        return {"ids": record["ids"], "label": self.label_of[record["topic"]]}


def collate(documents: Documents) -> Batch:
    """Pad to the longest of the batch."""
    longest = max(len(d["ids"]) for d in documents)
    ids = torch.full((len(documents), longest), PAD)
    for row, document in enumerate(documents):
        ids[row, : len(document["ids"])] = torch.tensor(document["ids"])
    return {
        "input_ids": ids,
        "attention_mask": (ids != PAD).long(),
        "labels": torch.tensor([d["label"] for d in documents]),
    }


@dataclass
class Output:
    """What the model returns, in the manner of the transformers library."""

    logits: Tensor
    loss: Tensor | None = None


class TopicModel(nn.Module):
    """Embedding, one encoder layer, mean of the real tokens, linear head."""

    padding_idx: int | None = PAD

    def __init__(self, width: int = 32, dropout: float = 0.1, topics: int = len(TOPICS)) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, width, padding_idx=self.padding_idx)
        self.positions = nn.Parameter(torch.randn(MAX_LENGTH, width) * 0.02)
        self.encoder = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=dropout, batch_first=True)
        self.head = nn.Linear(width, topics)

    def features(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = self.embedding(input_ids) + self.positions[: input_ids.shape[1]]
        x = self.encoder(x, src_key_padding_mask=attention_mask == 0)
        weight = attention_mask.unsqueeze(-1).to(x.dtype)
        pooled: Tensor = (x * weight).sum(1) / weight.sum(1).clamp_min(1)
        return pooled

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor | None = None) -> Output:
        logits = self.head(self.features(input_ids, attention_mask))
        return Output(logits, None if labels is None else self.loss(logits, labels))


def loss_and_logits(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """The model's own loss."""
    out = model(**batch)
    return out.loss, out.logits


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)


def build(
    model: Callable[[], nn.Module] = TopicModel,
    train: Callable[[Sequence[str]], Dataset[Document]] = Messages,
    val: Callable[[Sequence[str]], Dataset[Document]] = Messages,
    collate_fn: Callable[[Documents], Batch] = collate,
    optimizer: Callable[[nn.Module], torch.optim.Optimizer] = adamw,
    scheduler: Callable[[torch.optim.Optimizer], Any] | None = None,
    **changes: Any,
) -> Pipeline:
    """1000 messages for training, 400 for validation."""
    lines = messages()
    net = model()
    opt = optimizer(net)
    loader = {"batch_size": 32, "shuffle": True} | changes.pop("loader", {})
    fields: dict[str, Any] = {
        "train": DataLoader(train(lines[:1000]), collate_fn=collate_fn, **loader),
        "val": DataLoader(val(lines[1000:]), batch_size=100, collate_fn=collate_fn),
        "optimizer": opt,
        "scheduler": scheduler(opt) if scheduler else None,
        "compute_loss": loss_and_logits,
        "task": "classification",
        "num_classes": len(TOPICS),
        "class_names": TOPICS,
        "epochs": 10,
    }
    return Pipeline(net, **(fields | changes))
