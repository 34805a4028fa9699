"""A character model: a small causal transformer on sentences of a toy grammar, next-character targets."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from diagnose.pipeline import Pipeline

WHO = ("the cat", "a dog", "my aunt", "the old king", "nobody", "her friend")
DOES = ("sees", "likes", "hunts", "forgets", "draws", "buys")
WHAT = ("a red ball", "the moon", "two fish", "some bread", "the long road", "a quiet song")
ALPHABET = "abcdefghijklmnopqrstuvwxyz .,"
BLOCK = 24


@cache
def corpus() -> Tensor:
    """About 34,000 characters as integers."""
    g = torch.Generator().manual_seed(5)
    sentences = []
    for _ in range(1400):
        who, does, what, end = (int(v) for v in torch.randint(0, 6, (4,), generator=g))
        sentences.append(f"{WHO[who]} {DOES[does]} {WHAT[what]}{'. ' if end < 4 else ', '}")
    return torch.tensor([ALPHABET.index(c) for c in "".join(sentences)])


class Blocks(Dataset[tuple[Tensor, Tensor]]):
    """Blocks of the text, one after the other; the target is the block one character later."""

    def __init__(self, text: Tensor, block: int = BLOCK) -> None:
        self.text, self.block = text, block

    def __len__(self) -> int:
        return (len(self.text) - 2) // self.block

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        i = index * self.block
        return self.text[i : i + self.block], self.text[i + 1 : i + 1 + self.block]


class Attention(nn.Module):
    """Causal self-attention, written out."""

    def __init__(self, width: int, heads: int, block: int = BLOCK) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.register_buffer("mask", self.causal_mask(block), persistent=False)

    def causal_mask(self, block: int) -> Tensor:
        """True where position i may not look at j."""
        return torch.ones(block, block, dtype=torch.bool).triu(1)

    def forward(self, x: Tensor) -> Tensor:
        b, length, width = x.shape
        q, k, v = (t.view(b, length, self.heads, -1).transpose(1, 2) for t in self.qkv(x).split(width, dim=-1))
        scores = q @ k.transpose(-2, -1) / (width // self.heads) ** 0.5
        scores = scores.masked_fill(self.mask[:length, :length], float("-inf"))  # type: ignore[index]
        mixed: Tensor = self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(b, length, width))
        return mixed


class Block(nn.Module):
    attention: type[nn.Module] = Attention

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend = self.attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 3 * width), nn.GELU(), nn.Linear(3 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class CharModel(nn.Module):
    """Two blocks, learned positions, GPT-2 initialisation."""

    block: type[nn.Module] = Block

    def __init__(self, width: int = 32, depth: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.tokens = nn.Embedding(len(ALPHABET), width)
        self.positions = nn.Embedding(BLOCK, width)
        self.blocks: Any = self.stack([self.block(width, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, len(ALPHABET), bias=False)
        self.apply(self.initialise)

    def stack(self, blocks: list[nn.Module]) -> Any:
        return nn.ModuleList(blocks)

    @staticmethod
    def initialise(module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x))
        return logits


def next_character_loss(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    """No decay on biases, norms and embeddings."""
    decay = [p for n, p in model.named_parameters() if p.ndim > 1 and "tokens" not in n and "positions" not in n]
    kept = {id(p) for p in decay}
    plain = [p for p in model.parameters() if id(p) not in kept]
    groups = [{"params": decay, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=3e-3, betas=(0.9, 0.95))


def build(
    model: Callable[[], nn.Module] = CharModel,
    dataset: Callable[[Tensor], Any] = Blocks,
    loss: Callable[[Tensor, Tensor], Any] = next_character_loss,
    optimizer: Callable[[nn.Module], torch.optim.Optimizer] = adamw,
    scheduler: Callable[[torch.optim.Optimizer], Any] | None = None,
    **changes: Any,
) -> Pipeline:
    """The first 80 % of the text for training, the rest for validation."""
    text = corpus()
    cut = int(0.8 * len(text))
    net = model()
    opt = optimizer(net)
    loader = {"batch_size": 20, "shuffle": True} | changes.pop("loader", {})
    fields: dict[str, Any] = {
        "train": DataLoader(dataset(text[:cut]), **loader),
        "val": DataLoader(dataset(text[cut:]), batch_size=64),
        "loss": loss,
        "optimizer": opt,
        "scheduler": scheduler(opt) if scheduler else None,
        "clip_grad_norm": 1.0,
        "task": "language-model",
        "num_classes": len(ALPHABET),
        "epochs": 8,
    }
    return Pipeline(net, **(fields | changes))
