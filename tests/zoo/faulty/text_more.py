"""Faults in the messages, their labels and splits, and in what is optimised."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from zoo.cases import Case, faulty
from zoo.programs.text import (
    MAX_LENGTH,
    TOPICS,
    VOCABULARY,
    Batch,
    Document,
    Documents,
    Messages,
    TopicModel,
    adamw,
    build,
    collate,
)


class FromOne(Messages):
    """Labels 1 to 4."""

    def __getitem__(self, index: int) -> Document:
        document = super().__getitem__(index)
        return document | {"label": document["label"] + 1}


class ByAppearance(Messages):
    """Numbers the topics as they come in this split."""

    def __init__(self, lines: Sequence[str]) -> None:
        names = Counter(Messages(lines)[i]["label"] for i in range(len(lines)))
        super().__init__(lines, [TOPICS[i] for i, _ in reversed(names.most_common())])


class ByLength(Messages):
    """Sorts the messages by length for less padding, the labels stay."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__(lines)
        read = [super(ByLength, self).__getitem__(i) for i in range(len(lines))]
        self.ids = sorted((d["ids"] for d in read), key=len)
        self.labels = [d["label"] for d in read]

    def __getitem__(self, index: int) -> Document:
        return {"ids": self.ids[index], "label": self.labels[index]}


class Loaded(Messages):
    """Parses all at once and returns what was parsed last."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__(lines)
        for i in range(len(lines)):
            self.document = super().__getitem__(i)

    def __getitem__(self, index: int) -> Document:
        return self.document


class WithTag(Messages):
    """The topic's own tag is still in front of the text."""

    def __getitem__(self, index: int) -> Document:
        document = super().__getitem__(index)
        tag = VOCABULARY - 1 - document["label"]
        return document | {"ids": [tag, *document["ids"]][:MAX_LENGTH]}


def cut_file(lines: Sequence[str]) -> Messages:
    """A download that ended in the middle of a line."""
    return Messages([*lines[:700], lines[700][:31], *lines[701:]])


def without_music(lines: Sequence[str]) -> Messages:
    """One topic lies in a file of its own, which was not read."""
    return Messages([line for line in lines if '"music"' not in line])


def by_topic(lines: Sequence[str]) -> Messages:
    """One topic after the other."""
    return Messages(sorted(lines, key=lambda line: line.rsplit(":", 1)[1]))


def with_old_messages(lines: Sequence[str]) -> Messages:
    """Validation is filled up from the file that training reads."""
    from zoo.programs.text import messages

    return Messages([*lines[:200], *messages()[:200]])


def float_labels(documents: Documents) -> Batch:
    """Everything through one helper that makes floats."""
    batch = collate(documents)
    return batch | {"labels": batch["labels"].float()}


def freeze_all(model: nn.Module) -> torch.optim.Optimizer:
    """Freezes the encoder, and with it the head."""
    optimizer = adamw(model)
    model.requires_grad_(False)
    return optimizer


def without_matrices(model: nn.Module) -> torch.optim.Optimizer:
    """Two groups for weight decay, the matrices' one is built from the wrong names."""
    named = list(model.named_parameters())
    decay = [p for n, p in named if n.endswith(".kernel")]
    plain = [p for n, p in named if n.endswith("bias") or "norm" in n]
    groups: list[dict[str, Any]] = [{"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups + ([{"params": decay}] if decay else []), lr=2e-3)


def decay_per_batch(optimizer: torch.optim.Optimizer) -> Any:
    return torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.8)


def long_warmup(optimizer: torch.optim.Optimizer) -> Any:
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 10_000))


CASES: tuple[Case, ...] = (
    faulty(build, "labels-out-of-range", train=FromOne, val=FromOne),
    faulty(build, "num-classes-mismatch", also=("labels-out-of-range",), model=lambda: TopicModel(topics=3)),
    faulty(build, "label-map-differs-in-validation", val=ByAppearance),
    faulty(build, "labels-unrelated-to-inputs", train=ByLength),
    faulty(build, "repeated-samples", also=("constant-inputs",), train=Loaded),
    faulty(build, "target-leaked-into-input", structural=True, train=WithTag, val=WithTag),
    faulty(build, "unreadable-sample", train=cut_file),
    faulty(build, "missing-classes", train=without_music),
    faulty(build, "unshuffled-training-data", structural=True, train=by_topic, loader={"shuffle": False}),
    faulty(build, "train-val-leakage", structural=True, val=with_old_messages),
    faulty(build, "label-dtype-mismatch", collate_fn=float_labels),
    faulty(build, "everything-frozen", optimizer=freeze_all),
    faulty(build, "parameters-missing-from-optimizer", optimizer=without_matrices),
    faulty(build, "schedule-collapses", scheduler=decay_per_batch, scheduler_interval="step"),
    faulty(build, "warmup-outlasts-training", scheduler=long_warmup, scheduler_interval="step"),
)
