"""A small causal language model on the characters of sklearn's own documentation."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_linnerud, load_wine
from torch import nn
from torch.utils.data import DataLoader, Dataset

from diagnose import Pipeline
from zoo.cases import cases

BLOCK = 32


@functools.lru_cache
def text():
    parts = [f().DESCR for f in (load_breast_cancer, load_diabetes, load_digits, load_iris, load_linnerud, load_wine)]
    chars = "".join(parts).lower()
    letters = sorted(set(chars))
    return torch.tensor([letters.index(c) for c in chars]), len(letters)


class Windows(Dataset):
    def __init__(self, part, step=3):
        codes, _ = text()
        cut = int(0.9 * len(codes))
        self.codes = codes[:cut] if part == "train" else codes[cut:]
        self.step = step

    def __len__(self):
        return (len(self.codes) - BLOCK - 1) // self.step

    def __getitem__(self, i):
        chunk = self.codes[i * self.step : i * self.step + BLOCK + 1]
        return chunk[:-1], chunk[1:]


class Attention(nn.Module):
    def __init__(self, width, heads, diagonal=1):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.register_buffer("mask", torch.ones(BLOCK, BLOCK, dtype=torch.bool).triu(diagonal), persistent=False)

    def forward(self, x):
        n, t, c = x.shape
        q, k, v = self.qkv(x).view(n, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(-2, -1)) * (c // self.heads) ** -0.5
        scores = scores.masked_fill(self.mask[:t, :t], float("-inf"))
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(n, t, c))


class Block(nn.Module):
    def __init__(self, width, heads, diagonal):
        super().__init__()
        self.n1, self.n2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, diagonal)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        x = x + self.attention(self.n1(x))
        return x + self.mlp(self.n2(x))


class GPT(nn.Module):
    def __init__(self, width=48, heads=4, depth=2, diagonal=1, tied=True):
        super().__init__()
        self.vocabulary = text()[1]
        self.token = nn.Embedding(self.vocabulary, width)
        self.place = nn.Embedding(BLOCK, width)
        self.blocks = nn.Sequential(*(Block(width, heads, diagonal) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, self.vocabulary, bias=False)
        nn.init.normal_(self.token.weight, std=0.02)
        nn.init.normal_(self.place.weight, std=0.02)
        if tied:
            self.head.weight = self.token.weight

    def embed(self, ids):
        return self.token(ids) + self.place(torch.arange(ids.shape[1], device=ids.device))

    def forward(self, ids):
        return self.head(self.norm(self.blocks(self.embed(ids))))


def loss_of_tokens(logits, targets):
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))


def make(model=None, loss=loss_of_tokens, train=None, val=None, optimizer=None, scheduler=None, **rest):
    model = model if model is not None else GPT()
    opt = optimizer(model) if optimizer else torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.95))
    rest.setdefault("epochs", 2)
    return Pipeline(
        model=model,
        train=DataLoader(train or Windows("train"), batch_size=32, shuffle=True),
        val=DataLoader(val or Windows("val"), batch_size=64),
        loss=loss,
        optimizer=opt,
        scheduler=scheduler(opt) if scheduler else None,
        task="language-model",
        **rest,
    )


def base():
    return make()


# faults


def mask_is_off_by_one():
    return make(GPT(diagonal=2))


def mask_upside_down():
    class Model(GPT):
        def __init__(self):
            super().__init__()
            for block in self.blocks:
                block.attention.mask = torch.ones(BLOCK, BLOCK, dtype=torch.bool).tril(-1)

    return make(Model())


def predicts_what_it_reads():
    class Same(Windows):
        def __getitem__(self, i):
            x, _ = super().__getitem__(i)
            return x, x

    return make(train=Same("train"), val=Same("val"))


def shifted_here_and_in_the_loss():
    return make(loss=lambda logits, y: loss_of_tokens(logits[:, :-1], y[:, 1:]))


def reshaped_instead_of_transposed():
    def loss(logits, targets):
        n, t, v = logits.shape
        return F.cross_entropy(logits.view(n, v, t), targets)

    return make(loss=loss)


def summed_over_tokens():
    return make(
        loss=lambda logits, y: F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="sum"),
        optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.1),
    )


def pad_is_every_character():
    class Padded(Windows):
        def __getitem__(self, i):
            x, y = super().__getitem__(i)
            return x, y.masked_fill(torch.ones_like(y, dtype=torch.bool), -100)

    return make(train=Padded("train"), val=Padded("val"))


def space_is_ignored():
    space = int(text()[0].mode().values)
    return make(loss=lambda logits, y: F.cross_entropy(logits.flatten(0, 1), y.flatten(), ignore_index=space))


def warm_up_by_whole_numbers():
    return make(
        scheduler=lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda step: min(1, step // 100_000)),
        scheduler_interval="step",
    )


def warm_up_of_another_run():
    return make(
        scheduler=lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda step: min(1.0, step / 50_000)),
        scheduler_interval="step",
    )


def projection_made_anew():
    class Model(GPT):
        def __init__(self):
            super().__init__(tied=False)

        def forward(self, ids):
            h = self.norm(self.blocks(self.embed(ids)))
            return self.head(nn.Linear(48, 48)(h))

    return make(Model())


# healthy


def warm_up_from_zero():
    return make(
        scheduler=lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda step: min(1.0, step / 50)),
        scheduler_interval="step",
    )


def summed_with_adam():
    return make(loss=lambda logits, y: F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="sum"))


def shifted_in_the_loss():
    class Same(Windows):
        def __getitem__(self, i):
            x, _ = super().__getitem__(i)
            return x, x

    return make(loss=lambda logits, y: loss_of_tokens(logits[:, :-1], y[:, 1:]), train=Same("train"), val=Same("val"))


def untied():
    return make(GPT(tied=False))


CASES = cases(
    base,
    {
        mask_is_off_by_one: "future-leak",
        mask_upside_down: "future-leak",
        predicts_what_it_reads: "misaligned-language-model-labels",
        shifted_here_and_in_the_loss: "misaligned-language-model-labels",
        reshaped_instead_of_transposed: "wrong-loss-axis",
        summed_over_tokens: "loss-summed",
        pad_is_every_character: "all-targets-ignored",
        space_is_ignored: "ignore-index-hits-class",
        warm_up_by_whole_numbers: ("zero-learning-rate", "warmup-outlasts-training"),
        warm_up_of_another_run: "warmup-outlasts-training",
        projection_made_anew: "layer-created-in-forward",
    },
    (warm_up_from_zero, summed_with_adam, shifted_in_the_loss, untied),
    structural=(mask_is_off_by_one, mask_upside_down, predicts_what_it_reads),
)
