"""Cells of a notebook, exported: everything at the top level, a lr finder before the training."""

# ruff: noqa
# fmt: off
# %%
import copy
import os

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

# %%
torch.manual_seed(int(os.environ.get("SEED", "0")))
digits = load_digits()
X = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
y = torch.tensor(digits.target)
idx = torch.randperm(len(y))
train_ds = TensorDataset(X[idx[:1200]], y[idx[:1200]])
valid_ds = TensorDataset(X[idx[1200:1500]], y[idx[1200:1500]])
test_ds = TensorDataset(X[idx[1500:]], y[idx[1500:]])
train_dl = DataLoader(train_ds, batch_size=40, shuffle=True)
valid_dl = DataLoader(valid_ds, batch_size=100)

# %%
model = nn.Sequential(
    nn.Conv2d(1, 12, 3), nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 24, 3), nn.BatchNorm2d(24), nn.ReLU(),
    nn.Flatten(), nn.Linear(24 * 16, 10),
)

# %% lr finder
start_weights = copy.deepcopy(model.state_dict())
opt = torch.optim.Adam(model.parameters(), lr=1e-5)
lrs, curve = [], []
for xb, yb in train_dl:
    loss = F.cross_entropy(model(xb), yb)
    loss.backward()
    opt.step()
    opt.zero_grad()
    lrs.append(opt.param_groups[0]["lr"])
    curve.append(loss.item())
    opt.param_groups[0]["lr"] *= 1.4
    if loss.item() > 4 * min(curve):
        break
model.load_state_dict(start_weights)

# %% training
epochs = 4
opt = torch.optim.Adam(model.parameters(), lr=3e-3)
sched = torch.optim.lr_scheduler.OneCycleLR(opt, 6e-3, epochs=epochs, steps_per_epoch=len(train_dl))
train_losses, valid_losses = [], []
for epoch in range(epochs):
    model.train()
    for i, (xb, yb) in enumerate(train_dl):
        pred = model(xb)
        loss = F.cross_entropy(pred, yb)
        opt.zero_grad()
        loss.backward()
        opt.step()
        sched.step()
        train_losses.append(loss.item())
    model.eval()
    with torch.no_grad():
        losses, accs = zip(*[(F.cross_entropy(model(xb), yb), (model(xb).argmax(1) == yb).float().mean()) for xb, yb in valid_dl])
    valid_losses.append(torch.stack(losses).mean().item())
    print(epoch, valid_losses[-1], torch.stack(accs).mean().item())

# %% the final model: train and validation together
final = copy.deepcopy(model)
opt = torch.optim.Adam(final.parameters(), lr=3e-4)
final.train()
for xb, yb in DataLoader(torch.utils.data.ConcatDataset([train_ds, valid_ds]), batch_size=40, shuffle=True):
    loss = F.cross_entropy(final(xb), yb)
    opt.zero_grad()
    loss.backward()
    opt.step()

# %%
final.eval()
with torch.no_grad():
    xb, yb = test_ds[:]
    print("test accuracy", (final(xb).argmax(1) == yb).float().mean().item())
