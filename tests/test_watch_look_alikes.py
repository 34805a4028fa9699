"""Watched loops that do on purpose what is a fault elsewhere."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest
from watching import watch_source

from diagnose.config import Config
from diagnose.watch import judge
from probes.results import Severity

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


KNOWN_OPERATOR = """
clean = torch.rand(200, 1, 10, 10)
net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1))
edges = nn.Conv2d(1, 1, 3, padding=1, bias=False)
edges.weight.data = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])[None, None]
optimizer = torch.optim.Adam(net.parameters(), 1e-3)
for _ in range(4):
    for (x,) in DataLoader(TensorDataset(clean), 20, shuffle=True):
        out = net(x + 0.2 * torch.randn_like(x))
        optimizer.zero_grad()
        (F.mse_loss(out, x) + 0.1 * F.l1_loss(edges(out), edges(x))).backward()
        optimizer.step()
"""

KNOWN_SYSTEM = """
system = nn.Linear(3, 2, bias=False)
with torch.no_grad():
    system.weight.copy_(torch.tensor([[1.0, 0.1, 0.0], [0.0, 1.0, 0.1]]))
policy = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1))
optimizer = torch.optim.Adam(policy.parameters(), 3e-3)
for _ in range(40):
    x, cost = torch.randn(32, 2), 0.0
    for _ in range(4):
        x = system(torch.cat([x, policy(x)], 1))
        cost = cost + (x ** 2).sum(1).mean()
    optimizer.zero_grad()
    cost.backward()
    optimizer.step()
"""

RANDOM_YARDSTICK = """
clean = torch.rand(200, 1, 10, 10)
net = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 1, 3, padding=1))
features = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
optimizer = torch.optim.Adam(net.parameters(), 1e-3)
for _ in range(4):
    for (x,) in DataLoader(TensorDataset(clean), 20, shuffle=True):
        out = net(x + 0.2 * torch.randn_like(x))
        with torch.no_grad():
            wanted = features(x)
        optimizer.zero_grad()
        (F.mse_loss(features(out), wanted) + F.mse_loss(out, x)).backward()
        optimizer.step()
"""

CLASSES = """
centre = torch.randn(10, 8)
y = torch.randint(0, 10, (500,))
x = centre[y] + 0.5 * torch.randn(500, 8)
train, val = TensorDataset(x[:400], y[:400]), TensorDataset(x[400:], y[400:])
net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 10))
optimizer = torch.optim.Adam(net.parameters(), 1e-2)
for epoch in range(5):
    net.train()
    for a, b in DataLoader(train, 32, shuffle=True):
        optimizer.zero_grad()
        F.cross_entropy(net(a), b).backward()
        optimizer.step()
    net.eval()
    with torch.no_grad():
        right = 0
        for a, b in DataLoader(val, 10):
            out = net(a)
"""
BEST_SAMPLES = (
    CLASSES
    + """
            shown = b[out.argmax(0)]
            right += (out.argmax(1) == b).sum().item()
    print(right)
"""
)
WRONG_AXIS = (
    CLASSES
    + """
            right += (out.argmax(0) == b).sum().item()
    print(right)
"""
)

LARGEST_NORM = """
x = torch.randn(600, 10)
data = TensorDataset(x, (x[:, 0] + x[:, 1] > 0).long())
net = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 2))
optimizer = torch.optim.SGD(net.parameters(), 0.05)
for epoch in range(8):
    for a, b in DataLoader(data, 25, shuffle=True):
        optimizer.zero_grad()
        F.cross_entropy(net(a), b).backward()
        optimizer.step()
    if epoch >= 1:
        state = net.state_dict()
        norm = state["2.weight"].norm()
        if norm > 1.3:
            state["2.weight"].mul_(1.3 / norm)
            net.load_state_dict(state)
"""

CONSTANT_CONTEXT = """
y = torch.multinomial(torch.tensor([0.5, 0.2, 0.2, 0.1]), 800, replacement=True)
net = nn.Sequential(nn.Linear(1, 16), nn.ReLU(), nn.Linear(16, 4))
optimizer = torch.optim.Adam(net.parameters(), 1e-2)
for _ in range(5):
    for a, b in DataLoader(TensorDataset(torch.ones(800, 1), y), 40, shuffle=True):
        optimizer.zero_grad()
        F.cross_entropy(net(a), b).backward()
        optimizer.step()
"""


@pytest.mark.parametrize("body", [ROW_NUMBERS, TEXTS_AND_PICTURES, ALL_PAIRS, RANDOM_TARGET])
def test_is_silent(body: str, tmp_path: Path) -> None:
    seen = watch_source(HEAD + dedent(body), tmp_path)
    assert seen.alarms == {}
    assert [f.name for r in judge.parts([], Config(), seen.loop) for f in r.findings] == []


@pytest.mark.parametrize("body", [KNOWN_OPERATOR, KNOWN_SYSTEM, RANDOM_YARDSTICK])
def test_what_stands_fixed_behind_a_model_is_only_noted(body: str, tmp_path: Path) -> None:
    seen = watch_source(HEAD + dedent(body), tmp_path)
    assert seen.alarms == {}
    assert seen.finding("parameters-missing-from-optimizer").severity is Severity.NOTE


@pytest.mark.parametrize("body", [LARGEST_NORM, CONSTANT_CONTEXT])
def test_weights_written_in_place_and_one_context_for_all_are_no_fault(body: str, tmp_path: Path) -> None:
    assert watch_source(HEAD + dedent(body), tmp_path, parts=True).alarms == {}


def test_the_best_sample_of_each_class_is_no_class_of_each_sample(tmp_path: Path) -> None:
    """Where a batch is as large as there are classes, only what else is asked of the same output tells them apart."""
    assert watch_source(HEAD + dedent(BEST_SAMPLES), tmp_path).alarms == {}
    assert "metric-over-wrong-axis" in watch_source(HEAD + dedent(WRONG_AXIS), tmp_path).alarms
