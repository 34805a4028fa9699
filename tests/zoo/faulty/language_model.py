"""Faults in the character model: what it may look at, what it is to foretell, and its parts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import IterableDataset

from zoo.cases import Case, faulty
from zoo.programs.language_model import (
    ALPHABET,
    BLOCK,
    Attention,
    Block,
    Blocks,
    CharModel,
    build,
    next_character_loss,
)


class FullAttention(Attention):
    """No causal mask."""

    def forward(self, x: Tensor) -> Tensor:
        b, length, width = x.shape
        q, k, v = (t.view(b, length, self.heads, -1).transpose(1, 2) for t in self.qkv(x).split(width, dim=-1))
        mixed = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(b, length, width))
        return out


class NextToo(Attention):
    """The diagonal of the mask is one too high."""

    def causal_mask(self, block: int) -> Tensor:
        return torch.ones(block, block, dtype=torch.bool).triu(2)


class LookBack(Attention):
    """The first position may look at nothing."""

    def causal_mask(self, block: int) -> Tensor:
        return torch.ones(block, block, dtype=torch.bool).triu(0)


class ViewedHeads(Attention):
    """Heads are made by a view, so that rows of the batch fall together."""

    def forward(self, x: Tensor) -> Tensor:
        b, length, width = x.shape
        x = x.reshape(length, b, width)
        q, k, v = (t.view(length, b, self.heads, -1).permute(1, 2, 0, 3) for t in self.qkv(x).split(width, dim=-1))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(b, length, width))
        return out


class SequenceFirst(nn.Module):
    """nn.MultiheadAttention without batch_first."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads)

    def forward(self, x: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.size(0))
        out: Tensor = self.attention(x, x, x, attn_mask=mask, need_weights=False)[0]
        return out


def with_attention(attention: type[nn.Module]) -> CharModel:
    """The character model with another attention."""
    block = type("Block", (Block,), {"attention": attention})
    return type("CharModel", (CharModel,), {"block": block})()  # type: ignore[no-any-return]


class ShiftsItself(CharModel):
    """Foretells from the position before, as if the targets were the inputs."""

    def forward(self, ids: Tensor) -> Tensor:
        logits = super().forward(ids)
        return F.pad(logits[:, :-1], (0, 0, 1, 0))


class PlainList(CharModel):
    """Blocks in a Python list."""

    def stack(self, blocks: list[nn.Module]) -> Any:
        return blocks


class Probabilities(CharModel):
    """Ends with a softmax."""

    def forward(self, ids: Tensor) -> Tensor:
        return super().forward(ids).softmax(dim=-1)


class NoisyModel(CharModel):
    """Functional dropout that never stops."""

    def forward(self, ids: Tensor) -> Tensor:
        x = F.dropout(self.tokens(ids) + self.positions(torch.arange(ids.shape[1])), 0.3)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x))
        return logits


class FrozenBody(CharModel):
    """Runs the blocks without a graph to save memory."""

    def forward(self, ids: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))
            for block in self.blocks:
                x = block(x)
        logits: Tensor = self.head(self.norm(x))
        return logits


class UnitNormal(CharModel):
    """Forgets the deviation of the normal distribution."""

    @staticmethod
    def initialise(module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight)


class Constant(CharModel):
    """Every weight is the same."""

    @staticmethod
    def initialise(module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.constant_(module.weight, 0.02)


class SpareBlock(CharModel):
    """A third block that forward does not reach."""

    def __init__(self) -> None:
        super().__init__(depth=3)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))
        for block in self.blocks[:2]:
            x = block(x)
        logits: Tensor = self.head(self.norm(x))
        return logits


class NewHead(CharModel):
    """Makes its last layer when it is called."""

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        logits: Tensor = nn.Linear(x.shape[-1], len(ALPHABET))(self.norm(x))
        return logits


class SameBlocks(Blocks):
    """The target is the input."""

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x, _ = super().__getitem__(index)
        return x, x.clone()


class TwoLater(Blocks):
    """The target is two characters later."""

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        i = index * self.block
        return self.text[i : i + self.block], self.text[i + 2 : i + 2 + self.block]


class FixedWindows(Blocks):
    """Random windows, from a generator that starts anew for each."""

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        g = torch.Generator().manual_seed(1337)
        i = int(torch.randint(len(self.text) - self.block - 1, (1,), generator=g))
        return self.text[i : i + self.block], self.text[i + 1 : i + 1 + self.block]


class Masked(Blocks):
    """Marks every target as one that does not count."""

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x, y = super().__getitem__(index)
        return x, y.masked_fill(torch.arange(len(y)) < BLOCK, -100)


class Stream(IterableDataset[tuple[Tensor, Tensor]]):
    """Blocks as a stream; every worker reads all of it."""

    def __init__(self, text: Tensor) -> None:
        self.blocks = Blocks(text)

    def __len__(self) -> int:
        return len(self.blocks)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for i in torch.randperm(len(self.blocks)).tolist():
            yield self.blocks[i]


def per_character(logits: Tensor, targets: Tensor) -> Tensor:
    """One loss for each character."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")


def viewed_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Classes are put second by a view."""
    b, length, classes = logits.shape
    return F.cross_entropy(logits.view(b, classes, length), targets)


def very_smooth(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), label_smoothing=0.97)


def adamw_with(**options: Any) -> Any:
    """AdamW with the options of the base, but for ``options``."""
    usual: dict[str, Any] = {"lr": 3e-3, "betas": (0.9, 0.95)}
    return lambda model: torch.optim.AdamW(model.parameters(), **(usual | options))


def scaled_rate(model: nn.Module) -> torch.optim.Optimizer:
    """The linear scaling rule, with a whole division."""
    return torch.optim.AdamW(model.parameters(), lr=3e-3 * (20 // 256))


def accumulate_for_ever(model: nn.Module, batch: tuple[Tensor, Tensor], optimizer: Any) -> Tensor:
    """Backward and step."""
    loss = next_character_loss(model(batch[0]), batch[1])
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(model.parameters(), 1e9)
    optimizer.step()
    return loss.detach()


def cosine_of_epochs(optimizer: torch.optim.Optimizer) -> Any:
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=8)


CASES: tuple[Case, ...] = (
    faulty(build, "future-leak", structural=True, variant="no-mask", model=lambda: with_attention(FullAttention)),
    faulty(build, "future-leak", structural=True, variant="off-by-one", model=lambda: with_attention(NextToo)),
    faulty(build, "nonfinite-activations", also=("nonfinite-loss",), model=lambda: with_attention(LookBack)),
    faulty(build, "batch-mixing", variant="view", also=("future-leak",), model=lambda: with_attention(ViewedHeads)),
    faulty(build, "batch-mixing", variant="batch-first", model=lambda: with_attention(SequenceFirst)),
    faulty(build, "misaligned-language-model-labels", structural=True, variant="unshifted", dataset=SameBlocks),
    faulty(build, "misaligned-language-model-labels", variant="two-later", dataset=TwoLater),
    faulty(build, "misaligned-language-model-labels", variant="shifted-outputs", model=ShiftsItself),
    faulty(build, "unregistered-modules", model=PlainList),
    faulty(build, "softmax-before-cross-entropy", model=Probabilities),
    faulty(build, "nondeterministic-eval", model=NoisyModel),
    faulty(build, "graph-cut", model=FrozenBody),
    faulty(build, "exploding-initialisation", model=UnitNormal),
    faulty(build, "symmetric-initialisation", model=Constant),
    faulty(build, "unused-parameters", structural=True, model=SpareBlock),
    faulty(build, "layer-created-in-forward", model=NewHead),
    faulty(build, "repeated-samples", dataset=FixedWindows),
    faulty(build, "all-targets-ignored", dataset=Masked),
    faulty(
        build,
        "iterable-dataset-not-sharded",
        structural=True,
        dataset=Stream,
        loader={"shuffle": False, "num_workers": 2},
    ),
    faulty(build, "loss-not-scalar", loss=per_character),
    faulty(build, "wrong-loss-axis", loss=viewed_loss),
    faulty(build, "label-smoothing-too-strong", loss=very_smooth),
    faulty(build, "zero-learning-rate", optimizer=scaled_rate),
    faulty(build, "learning-rate-too-high", optimizer=adamw_with(lr=0.3)),
    faulty(build, "learning-rate-too-low", optimizer=adamw_with(lr=3e-6)),
    faulty(build, "weight-decay-too-strong", optimizer=adamw_with(weight_decay=30.0)),
    faulty(build, "adam-epsilon-out-of-range", optimizer=adamw_with(eps=1.0)),
    faulty(build, "gradients-not-cleared", train_step=accumulate_for_ever),
    faulty(build, "schedule-period-mismatch", structural=True, scheduler=cosine_of_epochs, scheduler_interval="step"),
)
