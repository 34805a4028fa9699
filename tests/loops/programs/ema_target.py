"""Self-supervised learning against a target that is a moving average, then a linear probe."""

# ruff: noqa
# fmt: off
import copy
import os

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(int(os.environ.get("SEED", "0")))
X, Y = load_digits(return_X_y=True)
X = torch.tensor(X, dtype=torch.float32) / 16
Y = torch.tensor(Y)
split = torch.randperm(len(X), generator=torch.Generator().manual_seed(2))
train_idx, test_idx = split[:1400], split[1400:]


def augment(batch):
    return batch * (torch.rand_like(batch) > 0.15) + 0.05 * torch.randn_like(batch)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(64, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 64))
        self.projector = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 32))

    def forward(self, x):
        return self.projector(self.backbone(x))


online = Encoder()
predictor = nn.Sequential(nn.Linear(32, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 32))
target = copy.deepcopy(online)
target.requires_grad_(False)
optimizer = torch.optim.AdamW([*online.parameters(), *predictor.parameters()], lr=2e-3, weight_decay=1e-4)


def similarity(p, z):
    return 2 - 2 * F.cosine_similarity(p, z, dim=-1).mean()


@torch.no_grad()
def update_target(momentum=0.98):
    for slow, fast in zip(target.parameters(), online.parameters()):
        slow.mul_(momentum).add_(fast, alpha=1 - momentum)


for epoch in range(8):
    order = train_idx[torch.randperm(len(train_idx))]
    total = 0.0
    for chunk in order.split(100):
        one, two = augment(X[chunk]), augment(X[chunk])
        with torch.no_grad():
            z1, z2 = target(one), target(two)
        loss = similarity(predictor(online(one)), z2) + similarity(predictor(online(two)), z1)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        update_target()
        total += loss.item()
    print("pretraining", epoch, total / 14)

online.eval()
with torch.no_grad():
    features = online.backbone(X)
probe = nn.Linear(64, 10)
probe_optimizer = torch.optim.Adam(probe.parameters(), lr=1e-2)
for epoch in range(20):
    for chunk in train_idx[torch.randperm(len(train_idx))].split(100):
        loss = F.cross_entropy(probe(features[chunk]), Y[chunk])
        probe_optimizer.zero_grad()
        loss.backward()
        probe_optimizer.step()
with torch.no_grad():
    print("linear probe", (probe(features[test_idx]).argmax(1) == Y[test_idx]).float().mean().item())
