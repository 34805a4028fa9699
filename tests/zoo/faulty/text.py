"""Faults in the topic classifier: its layers, the padding, and the loss it returns."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.cases import Case, faulty
from zoo.programs.text import (
    PAD,
    TOPICS,
    VOCABULARY,
    Output,
    TopicModel,
    build,
)


class MeanOfAll(TopicModel):
    """Averages over the padding and lets tokens attend to it."""

    def features(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = self.embedding(input_ids) + self.positions[: input_ids.shape[1]]
        pooled: Tensor = self.encoder(x).mean(1)
        return pooled


class LastStep(nn.Module):
    """Reads the state after the padding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 32, padding_idx=PAD)
        self.rnn = nn.LSTM(32, 32, batch_first=True)
        self.head = nn.Linear(32, len(TOPICS))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor | None = None) -> Output:
        states, _ = self.rnn(self.embedding(input_ids))
        logits = self.head(states[:, -1])
        return Output(logits, None if labels is None else F.cross_entropy(logits, labels))


class PadIsWord(TopicModel):
    """The embedding of a common word is fixed at zero."""

    padding_idx = 5


class BatchSoftmax(TopicModel):
    """Softmax over the examples."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.nll_loss(F.log_softmax(logits, dim=0), labels)


class Likelihood(TopicModel):
    """Minimises the log-likelihood."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.log_softmax(logits, dim=-1).gather(1, labels[:, None]).mean()


class Perplexed(TopicModel):
    """A probability where NLLLoss wants its logarithm."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.nll_loss(F.softmax(logits, dim=-1), labels)


class Reported(TopicModel):
    """Returns the loss as a number made a tensor again."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        value = F.cross_entropy(logits, labels).item()
        return torch.tensor(value, requires_grad=True)


class SequenceFirst(TopicModel):
    """The encoder layer takes the batch for time."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1)

    def features(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = self.embedding(input_ids) + self.positions[: input_ids.shape[1]]
        x = self.encoder(x)
        weight = attention_mask.unsqueeze(-1).to(x.dtype)
        pooled: Tensor = (x * weight).sum(1) / weight.sum(1).clamp_min(1)
        return pooled


class AttentionPool(TopicModel):
    """A learned weight per token, over the tokens which are padding."""

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Linear(32, 1)

    def features(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = self.embedding(input_ids) + self.positions[: input_ids.shape[1]]
        x = self.encoder(x, src_key_padding_mask=attention_mask == 0)
        scores = self.score(x).squeeze(-1).masked_fill(attention_mask.bool(), float("-inf"))
        pooled: Tensor = (scores.softmax(-1).unsqueeze(-1) * x).sum(1)
        return pooled


class PlainNormal(TopicModel):
    """Weights from a normal distribution of deviation one."""

    def __init__(self) -> None:
        super().__init__()
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter)


class ListOfLayers(TopicModel):
    """Three encoder layers in a plain list."""

    def __init__(self) -> None:
        super().__init__()
        del self.encoder
        self.layers = [nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True) for _ in range(3)]

    def features(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = self.embedding(input_ids) + self.positions[: input_ids.shape[1]]
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=attention_mask == 0)
        weight = attention_mask.unsqueeze(-1).to(x.dtype)
        pooled: Tensor = (x * weight).sum(1) / weight.sum(1)
        return pooled


class ShortPositions(TopicModel):
    """Positions for 16 tokens, messages of up to 24."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.randn(16, 32) * 0.02)


class WordDropout(TopicModel):
    """Drops nearly all of the embedding."""

    def features(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = self.embedding(input_ids) + self.positions[: input_ids.shape[1]]
        x = F.dropout(x, p=0.95, training=self.training)
        x = self.encoder(x, src_key_padding_mask=attention_mask == 0)
        weight = attention_mask.unsqueeze(-1).to(x.dtype)
        pooled: Tensor = (x * weight).sum(1) / weight.sum(1)
        return pooled


class AlwaysDropout(TopicModel):
    """Dropout in evaluation too."""

    def features(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return F.dropout(super().features(input_ids, attention_mask), 0.5)


class PositionsAlone(TopicModel):
    """The positions take the place of the tokens instead of being added."""

    def features(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        tokens = self.embedding(input_ids)
        x = self.positions[: input_ids.shape[1]].expand_as(tokens)
        x = self.encoder(x, src_key_padding_mask=attention_mask == 0)
        weight = attention_mask.unsqueeze(-1).to(x.dtype)
        pooled: Tensor = (x * weight).sum(1) / weight.sum(1)
        return pooled


class HalfModel(TopicModel):
    """Keeps its weights in bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.to(torch.bfloat16)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits.float(), labels)


def careful(model: nn.Module) -> torch.optim.Optimizer:
    """A rate at which the model learns well in full precision."""
    return torch.optim.AdamW(model.parameters(), lr=5e-4, weight_decay=0.01)


CASES: tuple[Case, ...] = (
    faulty(build, "padding-affects-output", variant="mean", structural=True, model=MeanOfAll),
    faulty(build, "padding-affects-output", variant="last-step", structural=True, model=LastStep),
    faulty(build, "padding-idx-is-a-real-token", structural=True, model=PadIsWord),
    faulty(build, "softmax-over-batch", structural=True, model=BatchSoftmax),
    faulty(build, "loss-sign-flipped", model=Likelihood),
    faulty(build, "nll-on-probabilities", model=Perplexed),
    faulty(build, "loss-detached", model=Reported),
    faulty(build, "batch-mixing", structural=True, model=SequenceFirst),
    faulty(build, "nonfinite-activations", also=("nonfinite-loss",), model=AttentionPool),
    faulty(build, "exploding-initialisation", model=PlainNormal),
    faulty(build, "unregistered-modules", structural=True, model=ListOfLayers),
    faulty(build, "forward-shape-mismatch", model=ShortPositions),
    faulty(build, "dropout-too-strong", variant="embedding", model=WordDropout),
    faulty(build, "dropout-too-strong", variant="encoder", model=lambda: TopicModel(dropout=0.95)),
    faulty(build, "nondeterministic-eval", structural=True, model=AlwaysDropout),
    faulty(build, "ignored-input", also=("unused-parameters",), model=PositionsAlone),
    faulty(build, "bf16-update-lost", model=HalfModel, optimizer=careful),
)
