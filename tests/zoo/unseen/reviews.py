"""Short reviews, padded to the longest of the batch; a transformer that takes a dict and returns its loss."""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from diagnose import Pipeline
from zoo.cases import cases

PAD, CLS = 0, 1
WORDS = 120  # 2..41 speak well, 42..81 badly, the others say nothing


@functools.lru_cache
def corpus(count: int, seed: int) -> list[tuple[list[int], int]]:
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        mood = rng.randint(0, 2)
        length = rng.randint(5, 18)
        words = []
        for _ in range(length):
            if rng.random() < 0.45:
                low = {0: 42, 1: 82, 2: 2}[mood]
                words.append(low + rng.randrange(20))
            else:
                words.append(100 + rng.randrange(20))
        rows.append(([CLS, *words], mood))
    return rows


class Reviews(Dataset):
    def __init__(self, count, seed):
        self.rows = corpus(count, seed)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        words, mood = self.rows[index]
        return {"input_ids": words, "labels": mood}


def collate(rows):
    longest = max(len(row["input_ids"]) for row in rows)
    ids = torch.full((len(rows), longest), PAD)
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row["input_ids"])] = torch.tensor(row["input_ids"])
        mask[i, : len(row["input_ids"])] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor([row["labels"] for row in rows])}


@dataclass
class Output:
    loss: torch.Tensor | None
    logits: torch.Tensor


class Layer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.first = nn.LayerNorm(width)
        self.second = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x, hidden):
        h = self.first(x)
        x = x + self.attention(h, h, h, key_padding_mask=hidden, need_weights=False)[0]
        return x + self.mlp(self.second(x))


class Classifier(nn.Module):
    def __init__(self, width=32, heads=4, depth=2, classes=3):
        super().__init__()
        self.words = nn.Embedding(WORDS, width, padding_idx=PAD)
        self.places = nn.Parameter(torch.randn(1, 32, width) * 0.02)
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def encode(self, input_ids, attention_mask):
        x = self.words(input_ids) + self.places[:, : input_ids.shape[1]]
        for layer in self.layers:
            x = layer(x, attention_mask == 0)
        return self.norm(x)

    def pool(self, x, attention_mask):
        mask = attention_mask.unsqueeze(-1).float()
        return (x * mask).sum(1) / mask.sum(1)

    def logits(self, pooled):
        return self.head(pooled)

    def forward(self, input_ids, attention_mask=None, labels=None):
        if attention_mask is None:
            attention_mask = (input_ids != PAD).long()
        logits = self.logits(self.pool(self.encode(input_ids, attention_mask), attention_mask))
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return Output(loss, logits)


def make(model=None, optimizer=None, train=None, val=None, collate_fn=collate, batch=32, shuffle=True, **rest):
    model = model or Classifier()
    train = train or Reviews(3000, 1)
    val = val or Reviews(500, 2)
    return Pipeline(
        model=model,
        train=DataLoader(train, batch_size=batch, shuffle=shuffle, collate_fn=collate_fn),
        val=DataLoader(val, batch_size=64, collate_fn=collate_fn),
        optimizer=optimizer(model) if optimizer else torch.optim.AdamW(model.parameters(), lr=1e-3),
        epochs=5,
        **rest,
    )


def base():
    return make()


# faults


def pooled_over_padding():
    class Model(Classifier):
        def pool(self, x, attention_mask):
            return x.mean(dim=1)

        def encode(self, input_ids, attention_mask):
            return super().encode(input_ids, torch.ones_like(attention_mask))

    return make(Model())


def softmax_in_output():
    class Model(Classifier):
        def logits(self, pooled):
            return torch.softmax(self.head(pooled), dim=-1)

    return make(Model())


def layers_in_a_plain_list():
    class Model(Classifier):
        def __init__(self):
            super().__init__()
            del self.layers
            self.layers = [Layer(32, 4) for _ in range(2)]

    return make(Model())


def only_the_head_is_optimised():
    return make(
        optimizer=lambda model: torch.optim.AdamW([*model.head.parameters(), *model.norm.parameters()], lr=1e-3)
    )


def sequence_taken_for_batch():
    class Model(Classifier):
        def __init__(self):
            super().__init__()
            for layer in self.layers:
                layer.attention = nn.MultiheadAttention(32, 4)

        def encode(self, input_ids, attention_mask):
            x = self.words(input_ids) + self.places[:, : input_ids.shape[1]]
            for layer in self.layers:
                h = layer.first(x)
                x = x + layer.attention(h, h, h, need_weights=False)[0]
                x = x + layer.mlp(layer.second(x))
            return self.norm(x)

    return make(Model())


def mean_over_the_batch():
    """(N, T, E) pooled with the sentence of the neighbours: mean over dim 0 and broadcast back."""

    class Model(Classifier):
        def pool(self, x, attention_mask):
            return super().pool(x - x.mean(dim=0, keepdim=True), attention_mask)

    return make(Model())


def every_label_is_ignored():
    def masked(rows):
        batch = collate(rows)
        batch["labels"] = torch.where(batch["attention_mask"][:, 0] == 1, -100, batch["labels"])
        return batch

    return make(collate_fn=masked)


def loss_is_a_python_number():
    class Model(Classifier):
        def forward(self, input_ids, attention_mask=None, labels=None):
            out = super().forward(input_ids, attention_mask, labels)
            if out.loss is not None:
                out.loss = torch.tensor(out.loss.item(), requires_grad=True)
            return out

    return make(Model())


def sentiment_of_the_wrong_review():
    """The texts are shuffled, the labels are not."""
    data = Reviews(3000, 1)
    texts = [words for words, _ in data.rows]
    random.Random(0).shuffle(texts)
    data.rows = [(words, mood) for words, (_, mood) in zip(texts, data.rows, strict=True)]
    return make(train=data)


def validation_reviews_seen_in_training():
    train = Reviews(3000, 1)
    val = Reviews(500, 2)
    train.rows = train.rows + val.rows[:300]
    return make(train=train, val=val)


def labels_from_one():
    class OneBased(Reviews):
        def __getitem__(self, index):
            row = super().__getitem__(index)
            return {**row, "labels": row["labels"] + 1}

    return make(train=OneBased(3000, 1), val=OneBased(500, 2))


def mask_is_made_on_the_gpu():
    class Model(Classifier):
        def encode(self, input_ids, attention_mask):
            attention_mask = attention_mask * torch.ones(input_ids.shape[1], dtype=torch.long, device="cuda")
            return super().encode(input_ids, attention_mask)

    return make(Model())


# healthy


def without_validation():
    model = Classifier()
    train = DataLoader(Reviews(3000, 1), batch_size=32, shuffle=True, collate_fn=collate)
    return Pipeline(model=model, train=train, optimizer=torch.optim.AdamW(model.parameters(), lr=1e-3), epochs=5)


def decay_by_group():
    def groups(model):
        plain = [p for p in model.parameters() if p.ndim < 2]
        decayed = [p for p in model.parameters() if p.ndim >= 2]
        return torch.optim.AdamW(
            [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}], lr=1e-3
        )

    return make(optimizer=groups)


def first_token_pooled():
    class Model(Classifier):
        def pool(self, x, attention_mask):
            return x[:, 0]

    return make(Model())


def checkpointed():
    from torch.utils.checkpoint import checkpoint

    class Model(Classifier):
        def encode(self, input_ids, attention_mask):
            x = self.words(input_ids) + self.places[:, : input_ids.shape[1]]
            for layer in self.layers:
                x = checkpoint(layer, x, attention_mask == 0, use_reentrant=False)
            return self.norm(x)

    return make(Model())


CASES = cases(
    base,
    {
        pooled_over_padding: "padding-affects-output",
        softmax_in_output: "softmax-before-cross-entropy",
        layers_in_a_plain_list: "unregistered-modules",
        only_the_head_is_optimised: "parameters-missing-from-optimizer",
        sequence_taken_for_batch: "batch-mixing",
        mean_over_the_batch: "batch-mixing",
        every_label_is_ignored: "all-targets-ignored",
        loss_is_a_python_number: "loss-detached",
        sentiment_of_the_wrong_review: "labels-unrelated-to-inputs",
        validation_reviews_seen_in_training: "train-val-leakage",
        labels_from_one: "labels-out-of-range",
        mask_is_made_on_the_gpu: "device-mismatch",
    },
    (without_validation, decay_by_group, first_token_pooled, checkpointed),
    structural=(
        pooled_over_padding,
        softmax_in_output,
        sequence_taken_for_batch,
        mean_over_the_batch,
        validation_reviews_seen_in_training,
    ),
)
