"""Faults of ``multilabel``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.cases import Case, faulty
from zoo.programs.multilabel import Batch, Documents, Tagger, build, documents


class PlusMinus(Documents):
    """Tags as -1 and +1, as a hinge would want them."""

    def __init__(self, counts: Tensor, tags: Tensor) -> None:
        super().__init__(counts, 2 * tags - 1)


class WholeTags(Documents):
    def __init__(self, counts: Tensor, tags: Tensor) -> None:
        super().__init__(counts, tags.long())


class InverseFrequencies(Documents):
    """Divides by the length of a text, which is zero for those that were not read."""

    def __getitem__(self, index: int) -> Batch:
        counts = self.counts[index].clone()
        if index % 50 == 7:
            counts.zero_()
        return {"words": counts / counts.sum(), "labels": self.tags[index]}


class LongTexts(Documents):
    """Counts a word from fifty occurrences on, in texts of sixty words."""

    def __getitem__(self, index: int) -> Batch:
        return {"words": (self.counts[index] >= 50).float(), "labels": self.tags[index]}


class RandomWords(Documents):
    """Drops nine words in ten as augmentation."""

    def __getitem__(self, index: int) -> Batch:
        item = super().__getitem__(index)
        kept = (torch.rand(len(item["words"])) < 0.1).float()
        return {"words": (item["words"] + 0.7) * kept * 10 - 0.7, "labels": item["labels"]}


def shuffled_tags() -> tuple[Tensor, Tensor]:
    """The tags are sorted by another key than the texts."""
    counts, tags = documents()
    return counts, tags[torch.argsort(counts[:, 3], stable=True)]


def train_noise() -> tuple[Tensor, Tensor]:
    """Careless taggers: a third of the tags of the training part are drawn at random."""
    counts, tags = documents()
    g = torch.Generator().manual_seed(12)
    wrong = torch.rand(tags.shape, generator=g) < 0.7
    wrong[1000:] = False
    return counts, torch.where(wrong, (torch.rand(tags.shape, generator=g) < 0.5).float(), tags)


def same_documents() -> tuple[Tensor, Tensor]:
    """Reads the file of the training part for validation as well."""
    counts, tags = documents()
    return torch.cat([counts[:1000], counts[:400]]), torch.cat([tags[:1000], tags[:400]])


def one_document() -> tuple[Tensor, Tensor]:
    """Broadcasts the counts of the first document over all."""
    counts, tags = documents()
    return counts[:1].expand(len(tags), -1), tags


class SevenTags(Tagger):
    def __init__(self) -> None:
        super().__init__(tags=7)


class SigmoidTagger(Tagger):
    def forward(self, words: Tensor) -> Any:
        return torch.sigmoid(super().forward(words))


class SoftmaxTagger(Tagger):
    """Tags compete in a softmax over the batch."""

    def forward(self, words: Tensor) -> Any:
        return F.softmax(super().forward(words), dim=0)


class DropoutAlways(Tagger):
    def forward(self, words: Tensor) -> Any:
        return self.classifier(F.dropout(F.gelu(self.encoder(words)), p=0.6))


class Narrow(Tagger):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(40, 1), nn.GELU(), nn.Linear(1, 32))


class Detached(Tagger):
    def forward(self, words: Tensor) -> Any:
        encoded = torch.as_tensor(self.encoder(words).detach().numpy())
        return self.classifier(F.gelu(encoded))


class BatchCentred(Tagger):
    """Centres and scales by the batch, over the wrong axis."""

    def forward(self, words: Tensor) -> Any:
        encoded = self.encoder(words)
        shared = encoded.mean(0, keepdim=True).expand_as(encoded)
        return self.classifier(F.gelu(shared))


class WordsUnused(Tagger):
    """Multiplies by a mask of padding that is zero everywhere."""

    def forward(self, words: Tensor) -> Any:
        mask = (words == 0).float()
        return super().forward(words * mask)


class SpareEncoder(Tagger):
    def __init__(self) -> None:
        super().__init__()
        self.title_encoder = nn.Sequential(nn.Linear(40, 64), nn.GELU(), nn.Linear(64, 32))


def unaveraged(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    logits = model(batch["words"])
    return F.binary_cross_entropy_with_logits(logits, batch["labels"], reduction="none"), logits


def negated(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    logits = model(batch["words"])
    return -F.binary_cross_entropy_with_logits(logits, batch["labels"]), logits


def rounded(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """The loss of decisions, not of logits."""
    logits = model(batch["words"])
    decided = (logits > 0).float()
    return F.mse_loss(decided, batch["labels"]).requires_grad_(), logits


def log_of_sigmoid(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    logits = model(batch["words"])
    p, y = torch.sigmoid(logits), batch["labels"]
    return -(y * p.log() + (1 - y) * (1 - p).log()).mean(), logits


def sparse_answers(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """A penalty on the answers that leaves nothing to the data."""
    logits = model(batch["words"])
    data = F.binary_cross_entropy_with_logits(logits, batch["labels"])
    return data + 2.0 * logits.pow(2).mean(), logits


def adam(**options: Any) -> Any:
    return lambda net: torch.optim.Adam(net.parameters(), **{"lr": 2e-3, **options})


def classifier_missing(net: Any) -> Any:
    return torch.optim.Adam([p for p in net.encoder.parameters() if p.ndim == 1], lr=2e-3)


CASES: tuple[Case, ...] = (
    faulty(build, "target-outside-loss-domain", dataset=PlusMinus),
    faulty(build, "label-dtype-mismatch", dataset=WholeTags),
    faulty(build, "nonfinite-inputs", dataset=InverseFrequencies),
    faulty(build, "constant-inputs", dataset=LongTexts),
    faulty(build, "constant-inputs", variant="broadcast", source=one_document, also=("repeated-samples",)),
    faulty(build, "augmentation-too-strong", dataset=RandomWords, val_dataset=Documents),
    faulty(build, "labels-unrelated-to-inputs", source=shuffled_tags),
    faulty(build, "noisy-labels", source=train_noise),
    faulty(build, "train-val-leakage", structural=True, source=same_documents),
    faulty(build, "output-shape-mismatch", model=SevenTags, also=("num-classes-mismatch",)),
    faulty(build, "bce-on-probabilities", model=SigmoidTagger, also=("activation-on-logits",)),
    faulty(build, "softmax-over-batch", model=SoftmaxTagger),
    faulty(build, "nondeterministic-eval", model=DropoutAlways),
    faulty(build, "capacity-too-small", model=Narrow),
    faulty(build, "graph-cut", model=Detached),
    faulty(build, "batch-mixing", model=BatchCentred),
    faulty(build, "ignored-input", model=WordsUnused),
    faulty(build, "unused-parameters", structural=True, model=SpareEncoder),
    faulty(build, "loss-not-scalar", loss=unaveraged),
    faulty(build, "loss-sign-flipped", loss=negated),
    faulty(build, "loss-detached", loss=rounded),
    faulty(build, "unstable-log", structural=True, loss=log_of_sigmoid),
    faulty(build, "regulariser-dominates", loss=sparse_answers),
    faulty(build, "learning-rate-too-high", optimizer=adam(lr=3.0)),
    faulty(build, "learning-rate-too-low", optimizer=adam(lr=1e-6)),
    faulty(build, "weight-decay-too-strong", optimizer=adam(weight_decay=1.0)),
    faulty(build, "parameters-missing-from-optimizer", optimizer=classifier_missing),
)
