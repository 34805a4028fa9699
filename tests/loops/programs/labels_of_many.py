"""Several labels per sample, with the loss on logits; activations are computed again in backward (checkpointing)."""

import os

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(int(os.environ.get("SEED", "0")))
features = torch.randn(640, 24)
tags = (features @ torch.randn(24, 6) > 0).float()
train_iter = DataLoader(TensorDataset(features[:512], tags[:512]), batch_size=32, shuffle=True)
valid_iter = DataLoader(TensorDataset(features[512:], tags[512:]), batch_size=64)


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Linear(24, 64), nn.LayerNorm(64), nn.GELU())
        self.second = nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.Dropout(0.1))
        self.head = nn.Linear(64, 6)

    def forward(self, x):
        x = checkpoint(self.first, x, use_reentrant=False)
        x = checkpoint(self.second, x, use_reentrant=False)
        return self.head(x)


net = Tagger()
criterion = nn.BCEWithLogitsLoss()
optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.01)
for epoch in range(6):
    net.train()
    for x, y in train_iter:
        optimizer.zero_grad()
        loss = criterion(net(x), y)
        loss.backward()
        optimizer.step()
    net.eval()
    with torch.no_grad():
        hits = torch.cat([(net(x) > 0) == (y > 0.5) for x, y in valid_iter])
    print(epoch, loss.item(), hits.float().mean().item())
