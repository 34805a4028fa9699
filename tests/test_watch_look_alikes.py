"""Watched loops that do on purpose what is a fault elsewhere."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest
from watching import watch_source

from diagnose.config import Config
from diagnose.watch import judge

HEAD = """
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
"""

ROW_NUMBERS = """
x = torch.randn(240, 6)
y = (x @ torch.randn(6, 3)).argmax(1)
def split(part):
    return TensorDataset(torch.arange(len(x[part])), x[part], y[part])
train, val = DataLoader(split(slice(160)), 20, shuffle=True), DataLoader(split(slice(160, None)), 20)
model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
optimizer = torch.optim.Adam(model.parameters(), 1e-2)
for _ in range(3):
    model.train()
    for _, a, b in train:
        optimizer.zero_grad()
        F.cross_entropy(model(a), b).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        print(sum((model(a).argmax(1) == b).sum().item() for _, a, b in val))
"""

TEXTS_AND_PICTURES = """
z = torch.randn(320, 8)
data = TensorDataset(z @ torch.randn(8, 20), z @ torch.randn(8, 30))
class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.text, self.picture = nn.Linear(20, 16), nn.Linear(30, 16)
    def forward(self, a, b):
        return 3 * F.normalize(self.text(a), dim=1) @ F.normalize(self.picture(b), dim=1).T
model = Pair()
optimizer = torch.optim.Adam(model.parameters(), 1e-2)
for _ in range(4):
    for a, b in DataLoader(data, 32, shuffle=True):
        scores, own = model(a, b), torch.arange(len(a))
        loss = (F.cross_entropy(scores, own) + F.cross_entropy(scores.t(), own)) / 2
        print((scores.argmax(1) == own).float().mean().item(), (scores.argmax(0) == own).float().mean().item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""

ALL_PAIRS = """
model = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 16))
optimizer = torch.optim.Adam(model.parameters(), 1e-3)
for _ in range(40):
    state = torch.randn(32, 4)
    returns = state.sum(1, keepdim=True) + torch.randn(32, 16)
    loss = F.smooth_l1_loss(model(state).unsqueeze(2), returns.unsqueeze(1), reduction="none").sum(1).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""

RANDOM_TARGET = """
target = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 4))
model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 4))
optimizer = torch.optim.Adam(model.parameters(), 1e-3)
for _ in range(40):
    x = torch.randn(32, 6)
    optimizer.zero_grad()
    F.mse_loss(model(x), target(x)).backward()
    optimizer.step()
"""


@pytest.mark.parametrize("body", [ROW_NUMBERS, TEXTS_AND_PICTURES, ALL_PAIRS, RANDOM_TARGET])
def test_is_silent(body: str, tmp_path: Path) -> None:
    seen = watch_source(HEAD + dedent(body), tmp_path)
    assert seen.alarms == {}
    assert [f.name for r in judge.parts([], Config(), seen.loop) for f in r.findings] == []
