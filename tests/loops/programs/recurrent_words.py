"""A word model: an LSTM whose hidden state is carried over, and a rate that is cut when validation stops falling."""

# ruff: noqa
# fmt: off
import math
import os

import torch
from torch import nn

torch.manual_seed(int(os.environ.get("SEED", "0")))


def corpus(length, seed):
    generator = torch.Generator().manual_seed(seed)
    follow = torch.randint(0, 40, (40, 2), generator=torch.Generator().manual_seed(11))
    words, word = [], 0
    for coin in torch.rand(length, generator=generator).tolist():
        word = int(follow[word, int(coin < 0.2)]) if coin < 0.95 else int(coin * 1e4) % 40
        words.append(word)
    return torch.tensor(words)


def batchify(data, size):
    rows = data.size(0) // size
    return data[: rows * size].view(size, -1).t().contiguous()


class WordModel(nn.Module):
    def __init__(self, words, width):
        super().__init__()
        self.encoder = nn.Embedding(words, width)
        self.rnn = nn.LSTM(width, width, 1)
        self.drop = nn.Dropout(0.2)
        self.decoder = nn.Linear(width, words)

    def forward(self, x, hidden):
        out, hidden = self.rnn(self.drop(self.encoder(x)), hidden)
        return self.decoder(self.drop(out)), hidden


def repackage(hidden):
    return tuple(h.detach() for h in hidden)


def get_batch(source, i):
    length = min(bptt, len(source) - 1 - i)
    return source[i : i + length], source[i + 1 : i + 1 + length].reshape(-1)


def evaluate(source):
    model.eval()
    total, hidden = 0.0, (torch.zeros(1, 10, 48), torch.zeros(1, 10, 48))
    with torch.no_grad():
        for i in range(0, source.size(0) - 1, bptt):
            data, targets = get_batch(source, i)
            output, hidden = model(data, hidden)
            total += len(data) * criterion(output.view(-1, 40), targets).item()
    return total / (len(source) - 1)


def train():
    model.train()
    total, hidden = 0.0, (torch.zeros(1, 20, 48), torch.zeros(1, 20, 48))
    for i in range(0, train_data.size(0) - 1, bptt):
        data, targets = get_batch(train_data, i)
        model.zero_grad()
        hidden = repackage(hidden)
        output, hidden = model(data, hidden)
        loss = criterion(output.view(-1, 40), targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        total += loss.item()
    return total / (len(train_data) // bptt)


bptt = 20
train_data, val_data = batchify(corpus(24000, 1), 20), batchify(corpus(4000, 2), 10)
model = WordModel(40, 48)
criterion = nn.CrossEntropyLoss()
lr, best = 5.0, None
optimizer = torch.optim.SGD(model.parameters(), lr=lr)
for epoch in range(6):
    train_loss = train()
    val_loss = evaluate(val_data)
    print(f"epoch {epoch} train {train_loss:.3f} val {val_loss:.3f} perplexity {math.exp(val_loss):.2f}")
    if best is None or val_loss < best:
        with open("model.pt", "wb") as f:
            torch.save(model, f)
        best = val_loss
    else:
        lr /= 4.0
        for group in optimizer.param_groups:
            group["lr"] = lr
