"""A script for torchrun, as one process: the distributed sampler deals out the samples."""

import os

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

torch.manual_seed(int(os.environ.get("SEED", "0")))
x = torch.randn(320, 6)
dataset = TensorDataset(x, (x.sum(1) > 0).float())
sampler = DistributedSampler(dataset, num_replicas=int(os.environ.get("WORLD_SIZE", "2")), rank=0, shuffle=True)
loader = DataLoader(dataset, batch_size=16, sampler=sampler)
model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
criterion = nn.BCEWithLogitsLoss()
for epoch in range(4):
    sampler.set_epoch(epoch)
    for data, target in loader:
        optimizer.zero_grad()
        loss = criterion(model(data).squeeze(1), target)
        loss.backward()
        optimizer.step()
    print(epoch, loss.item())
