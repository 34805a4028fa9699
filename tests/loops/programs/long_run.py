"""Many short steps: enough for a judgement on the course of the loss. Early stopping on a held-out part."""

import os

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(int(os.environ.get("SEED", "0")))
samples = torch.randn(1300, 8)
kinds = (samples @ torch.randn(8, 4)).argmax(1)
train_set, valid_set = TensorDataset(samples[:1000], kinds[:1000]), (samples[1000:], kinds[1000:])
batches = DataLoader(train_set, batch_size=20, shuffle=True, drop_last=True)
network = nn.Sequential(nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 4))
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
best, waited = float("inf"), 0
for epoch in range(20):
    network.train()
    for batch, kind in batches:
        optimizer.zero_grad()
        loss = criterion(network(batch), kind)
        loss.backward()
        optimizer.step()
    network.eval()
    with torch.no_grad():
        held_out = criterion(network(valid_set[0]), valid_set[1]).item()
    print(epoch, loss.item(), held_out)
    best, waited = (held_out, 0) if held_out < best else (best, waited + 1)
    if waited > 30:
        break
