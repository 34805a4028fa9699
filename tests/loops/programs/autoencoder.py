"""A variational autoencoder: two terms in the loss, no labels; samples are drawn in between."""

import os

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

torch.manual_seed(int(os.environ.get("SEED", "0")))
shapes = (torch.rand(400, 1).expand(-1, 30) > torch.linspace(0, 1, 30)).float()
train_loader = DataLoader(shapes[:320], batch_size=32, shuffle=True)
test_loader = DataLoader(shapes[320:], batch_size=40)


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.mean, self.spread = nn.Linear(30, 20), nn.Linear(20, 3), nn.Linear(20, 3)
        self.outer = nn.Sequential(nn.Linear(3, 20), nn.ReLU(), nn.Dropout(0.05), nn.Linear(20, 30))

    def forward(self, x):
        hidden = F.relu(self.inner(x))
        mean, spread = self.mean(hidden), self.spread(hidden)
        z = mean + torch.randn_like(mean) * torch.exp(0.5 * spread)
        return self.outer(z), mean, spread


def loss_function(logits, x, mean, spread):
    error = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    return error - 0.5 * torch.sum(1 + spread - mean.pow(2) - spread.exp())


model = VAE()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for epoch in range(1, 6):
    model.train()
    train_loss = 0
    for data in train_loader:
        optimizer.zero_grad()
        logits, mean, spread = model(data)
        loss = loss_function(logits, data, mean, spread)
        loss.backward()
        train_loss += loss.item()
        optimizer.step()
    model.eval()
    test_loss = 0
    with torch.no_grad():
        for data in test_loader:
            test_loss += loss_function(model(data)[0], data, *model(data)[1:]).item()
        sample = model.outer(torch.randn(4, 3)).sigmoid()
    print(epoch, train_loss / 320, test_loss / 80, sample.mean().item())
