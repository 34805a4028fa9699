"""Which of four motifs a noisy sequence of tokens holds: an embedding, two GRU layers, RMSprop."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from diagnose import Pipeline

VOCAB, LENGTH, MOTIFS = 24, 20, [(3, 9, 4), (9, 3, 4), (4, 3, 9), (17, 5, 11)]


def sequences(count, seed):
    g = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, VOCAB, (count, LENGTH), generator=g)
    labels = torch.randint(0, len(MOTIFS), (count,), generator=g)
    for row, label in zip(tokens, labels.tolist(), strict=True):
        start = int(torch.randint(0, LENGTH - 3, (1,), generator=g))
        row[start : start + 3] = torch.tensor(MOTIFS[label])
    return tokens, labels


class MotifGru(nn.Module):
    def __init__(self, hidden=48):
        super().__init__()
        self.embed = nn.Embedding(VOCAB, 24)
        self.rnn = nn.GRU(24, hidden, num_layers=2, batch_first=True, dropout=0.2)
        self.drop = nn.Dropout(0.1)
        self.out = nn.Linear(hidden, len(MOTIFS))

    def forward(self, tokens):
        states, _ = self.rnn(self.embed(tokens))
        return self.out(self.drop(states.max(dim=1).values))


def build():
    model = MotifGru()
    train = DataLoader(TensorDataset(*sequences(4000, 0)), batch_size=64, shuffle=True)
    val = DataLoader(TensorDataset(*sequences(800, 1)), batch_size=200)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=2e-3)
    return Pipeline(
        model=model,
        train=train,
        val=val,
        loss=nn.CrossEntropyLoss(),
        optimizer=optimizer,
        clip_grad_norm=1.0,
        epochs=10,
    )
