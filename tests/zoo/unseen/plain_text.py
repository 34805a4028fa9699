"""Reviews, good or bad: word embedding, GRU, padded batches."""

from __future__ import annotations

import functools
import random

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
from torch.utils.data import DataLoader, Dataset

from diagnose import Pipeline

PAD = 0
GOOD = "great lovely funny moving superb bright clever warm".split()
BAD = "dull awful boring flat weak clumsy cold empty".split()
PLAIN = "the a film it was and this plot actor scene with very of in we saw one two who story".split()
VOCAB = {word: i for i, word in enumerate(["<pad>", "<unk>", *PLAIN, "not", *GOOD, *BAD])}


@functools.lru_cache
def reviews(n=1200):
    rng = random.Random(0)
    found = []
    for _ in range(n):
        label = rng.randint(0, 1)
        words = [rng.choice(PLAIN) for _ in range(rng.randint(6, 22))]
        for _ in range(rng.randint(1, 3)):
            words.insert(rng.randint(0, len(words)), rng.choice(GOOD if label else BAD))
        found.append((" ".join(words), label))
    return found


def tokenize(text):
    return torch.tensor([VOCAB.get(word, 1) for word in text.split()])


class Reviews(Dataset):
    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        text, label = self.rows[index]
        return tokenize(text), label


def collate(batch):
    texts, labels = zip(*batch)
    lengths = torch.tensor([len(text) for text in texts])
    tokens = pad_sequence(texts, batch_first=True, padding_value=PAD)
    return tokens, lengths, torch.tensor(labels)


class Classifier(nn.Module):
    def __init__(self, vocab_size, embed_dim=32, hidden=48, num_classes=2):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embed_dim, padding_idx=PAD)
        self.gru = nn.GRU(embed_dim, hidden, batch_first=True)
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(hidden, num_classes)

    def forward(self, tokens, lengths):
        embedded = self.embedding(tokens)
        packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        _, hidden = self.gru(packed)
        hidden = hidden[-1]
        return self.fc(self.dropout(hidden))


def build():
    rows = reviews()
    train_loader = DataLoader(Reviews(rows[:1000]), batch_size=32, shuffle=True, collate_fn=collate)
    val_loader = DataLoader(Reviews(rows[1000:]), batch_size=50, collate_fn=collate)
    model = Classifier(len(VOCAB))
    return Pipeline(
        model=model,
        train=train_loader,
        val=val_loader,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=2e-3),
        clip_grad_norm=1.0,
        epochs=8,
    )
