"""A small GPT on characters; its batches hold the block and the block one further on."""

from __future__ import annotations

import functools
import math
import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from diagnose import Pipeline

BLOCK = 24


@functools.lru_cache
def corpus():
    rng = random.Random(2)
    names, verbs = ["anna", "bert", "carl", "dora"], ["sees", "meets", "calls", "likes"]
    lines = [f"{rng.choice(names)} {rng.choice(verbs)} {rng.choice(names)}." for _ in range(1500)]
    return " ".join(lines)


CHARS = sorted(set(corpus()))
STOI = {c: i for i, c in enumerate(CHARS)}


class CharDataset(Dataset):
    def __init__(self, text):
        self.data = torch.tensor([STOI[c] for c in text])

    def __len__(self):
        return (len(self.data) - 1) // BLOCK

    def __getitem__(self, i):
        chunk = self.data[i * BLOCK : i * BLOCK + BLOCK + 1]
        x = chunk[:-1]
        y = chunk[1:]
        return x, y


class CausalSelfAttention(nn.Module):
    def __init__(self, n_embd, n_head):
        super().__init__()
        self.c_attn = nn.Linear(n_embd, 3 * n_embd)
        self.c_proj = nn.Linear(n_embd, n_embd)
        self.n_head = n_head
        self.register_buffer("mask", torch.tril(torch.ones(BLOCK, BLOCK)).view(1, 1, BLOCK, BLOCK))

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = self.c_attn(x).split(C, dim=2)
        q = q.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        k = k.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        v = v.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        att = (q @ k.transpose(-2, -1)) / math.sqrt(k.size(-1))
        att = att.masked_fill(self.mask[:, :, :T, :T] == 0, float("-inf"))
        att = F.softmax(att, dim=-1)
        y = (att @ v).transpose(1, 2).contiguous().view(B, T, C)
        return self.c_proj(y)


class Block(nn.Module):
    def __init__(self, n_embd, n_head):
        super().__init__()
        self.ln_1 = nn.LayerNorm(n_embd)
        self.attn = CausalSelfAttention(n_embd, n_head)
        self.ln_2 = nn.LayerNorm(n_embd)
        self.mlp = nn.Sequential(nn.Linear(n_embd, 4 * n_embd), nn.GELU(), nn.Linear(4 * n_embd, n_embd))

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        x = x + self.mlp(self.ln_2(x))
        return x


class GPT(nn.Module):
    def __init__(self, vocab_size, n_embd=48, n_head=4, n_layer=2):
        super().__init__()
        self.wte = nn.Embedding(vocab_size, n_embd)
        self.wpe = nn.Embedding(BLOCK, n_embd)
        self.blocks = nn.ModuleList([Block(n_embd, n_head) for _ in range(n_layer)])
        self.ln_f = nn.LayerNorm(n_embd)
        self.lm_head = nn.Linear(n_embd, vocab_size, bias=False)
        self.apply(self._init_weights)

    def _init_weights(self, module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, mean=0.0, std=0.02)

    def forward(self, idx):
        B, T = idx.shape
        pos = torch.arange(T, device=idx.device)
        x = self.wte(idx) + self.wpe(pos)
        for block in self.blocks:
            x = block(x)
        x = self.ln_f(x)
        return self.lm_head(x)


def compute_loss(model, batch):
    x, y = batch
    logits = model(x)
    loss = F.cross_entropy(logits.view(-1, logits.size(-1)), y.view(-1))
    return loss, logits


def build():
    text = corpus()
    split = int(0.9 * len(text))
    train_loader = DataLoader(CharDataset(text[:split]), batch_size=16, shuffle=True)
    val_loader = DataLoader(CharDataset(text[split:]), batch_size=16)
    model = GPT(len(CHARS))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    return Pipeline(
        model=model,
        train=train_loader,
        val=val_loader,
        compute_loss=compute_loss,
        optimizer=optimizer,
        task="language-model",
        num_classes=len(CHARS),
        clip_grad_norm=1.0,
        epochs=6,
    )
