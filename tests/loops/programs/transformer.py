"""A small transformer with warm-up, stepped each batch; evaluation every so many steps within the epoch."""

import os

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(int(os.environ.get("SEED", "0")))
tokens = torch.randint(0, 20, (480, 10))
dataset = TensorDataset(tokens, (tokens[:, 0] > tokens[:, -1]).long())
train_dataset, eval_dataset = torch.utils.data.random_split(dataset, [400, 80])
train_loader = DataLoader(train_dataset, batch_size=20, shuffle=True)
eval_loader = DataLoader(eval_dataset, batch_size=40)


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 16)
        self.position = nn.Parameter(torch.zeros(10, 16))
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1)
        self.head = nn.Linear(16, 2)

    def forward(self, x):
        return self.head(self.encoder(self.embed(x) + self.position).mean(1))


model = Classifier()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 10) * (1 - step / 101))


def evaluate():
    model.eval()
    losses = []
    for x, y in eval_loader:
        with torch.no_grad():
            losses.append(nn.functional.cross_entropy(model(x), y).item())
    model.train()
    return sum(losses) / len(losses)


step = 0
model.train()
for epoch in range(5):
    for x, y in train_loader:
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        step += 1
        if step % 15 == 0:
            print(step, loss.item(), evaluate())
