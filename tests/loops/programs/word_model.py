"""A recurrent language model, read in stretches; the state is carried over, cut from its graph."""

import math
import os

import torch
from torch import nn

torch.manual_seed(int(os.environ.get("SEED", "0")))
NTOKEN, BPTT = 40, 12
corpus = torch.cumsum(torch.randint(1, 4, (8000,)), 0) % NTOKEN


class RNNModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.2)
        self.encoder = nn.Embedding(NTOKEN, 32)
        self.rnn = nn.LSTM(32, 32)
        self.decoder = nn.Linear(32, NTOKEN)

    def forward(self, tokens, hidden):
        output, hidden = self.rnn(self.drop(self.encoder(tokens)), hidden)
        return self.decoder(self.drop(output)), hidden

    def init_hidden(self, size):
        return torch.zeros(1, size, 32), torch.zeros(1, size, 32)


def batchify(data, size):
    steps = len(data) // size
    return data[: steps * size].view(size, -1).t().contiguous()


def get_batch(source, i):
    length = min(BPTT, len(source) - 1 - i)
    return source[i : i + length], source[i + 1 : i + 1 + length]


train_data, val_data = batchify(corpus[:7000], 20), batchify(corpus[7000:], 10)
model = RNNModel()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=2.0)


def evaluate(source):
    model.eval()
    total_loss = 0.0
    hidden = model.init_hidden(10)
    with torch.no_grad():
        for i in range(0, len(source) - 1, BPTT):
            data, targets = get_batch(source, i)
            output, hidden = model(data, hidden)
            total_loss += len(data) * criterion(output.flatten(0, 1), targets.flatten()).item()
    return total_loss / (len(source) - 1)


def train():
    model.train()
    total_loss = 0.0
    hidden = model.init_hidden(20)
    for i in range(0, len(train_data) - 1, BPTT):
        data, targets = get_batch(train_data, i)
        hidden = tuple(h.detach() for h in hidden)
        optimizer.zero_grad()
        output, hidden = model(data, hidden)
        loss = criterion(output.flatten(0, 1), targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        optimizer.step()
        total_loss += loss.item()
    return total_loss


best = None
for epoch in range(3):
    train()
    val_loss = evaluate(val_data)
    print(epoch, math.exp(val_loss))
    if best is None or val_loss < best:
        best = val_loss
    else:
        for group in optimizer.param_groups:
            group["lr"] /= 4
