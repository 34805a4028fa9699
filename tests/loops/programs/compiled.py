"""A model that is compiled, trained with clipping and label smoothing."""

import os

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(int(os.environ.get("SEED", "0")))
points = torch.rand(800, 2) * 4 - 2
rings = (points.norm(dim=1) * 2).long().clamp(max=3)
train_loader = DataLoader(TensorDataset(points[:640], rings[:640]), batch_size=32, shuffle=True)
raw = nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 4))
model = torch.compile(raw, backend="aot_eager")
criterion = nn.CrossEntropyLoss(label_smoothing=0.05)
optimizer = torch.optim.Adam(raw.parameters(), lr=5e-3)
for epoch in range(8):
    for batch, target in train_loader:
        optimizer.zero_grad(set_to_none=True)
        loss = criterion(model(batch), target)
        loss.backward()
        nn.utils.clip_grad_norm_(raw.parameters(), 5.0)
        optimizer.step()
with torch.no_grad():
    print((model(points[640:]).argmax(1) == rings[640:]).float().mean().item())
