"""Two views of each sample; an encoder and a projector, built apart and trained together."""

import itertools
import os

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

torch.manual_seed(int(os.environ.get("SEED", "0")))


class Views(Dataset):
    def __init__(self, size):
        self.items = torch.randn(size, 24)

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        item = self.items[index]
        return item + 0.1 * torch.randn(24), item + 0.1 * torch.randn(24)


encoder = nn.Sequential(nn.Linear(24, 48), nn.BatchNorm1d(48), nn.ReLU(), nn.Linear(48, 24))
projector = nn.Sequential(nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 12))
optimizer = torch.optim.AdamW(itertools.chain(encoder.parameters(), projector.parameters()), lr=1e-3, weight_decay=1e-4)
loader = DataLoader(Views(384), batch_size=48, shuffle=True, drop_last=True)
meter = []
for epoch in range(6):
    for first, second in loader:
        a = nn.functional.normalize(projector(encoder(first)), dim=1)
        b = nn.functional.normalize(projector(encoder(second)), dim=1)
        similarity = a @ b.t() / 0.2
        loss = nn.functional.cross_entropy(similarity, torch.arange(len(a)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        meter.append(loss.item())
    print(epoch, sum(meter[-8:]) / 8, (similarity.argmax(0) == torch.arange(len(a))).float().mean().item())
