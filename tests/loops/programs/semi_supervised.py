"""Labelled and unlabelled batches side by side, drawn with next; a teacher in train mode gives the targets."""

import copy
import os

import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(int(os.environ.get("SEED", "0")))
x = torch.randn(1000, 12)
y = (x[:, 0] > 0.2).long()
labelled = DataLoader(TensorDataset(x[:200], y[:200]), batch_size=20, shuffle=True)
unlabelled = DataLoader(TensorDataset(x[200:800]), batch_size=40, shuffle=True)
val_loader = DataLoader(TensorDataset(x[800:], y[800:]), batch_size=100)
student = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 2))
teacher = copy.deepcopy(student)
for p in teacher.parameters():
    p.requires_grad_(False)
opt = torch.optim.Adam(student.parameters(), lr=1e-3)


def forever(loader):
    while True:
        yield from loader


labelled_batches, unlabelled_batches = forever(labelled), forever(unlabelled)
for step in range(1, 91):
    student.train()
    images, labels = next(labelled_batches)
    (more,) = next(unlabelled_batches)
    with torch.no_grad():
        aim = teacher(more).softmax(1)
    loss = cross_entropy(student(images), labels) + mse_loss(student(more).softmax(1), aim)
    opt.zero_grad()
    loss.backward()
    opt.step()
    with torch.no_grad():
        for old, new in zip(teacher.parameters(), student.parameters()):
            old.lerp_(new, 0.05)
    if step % 30 == 0:
        student.eval()
        with torch.no_grad():
            good = sum((student(a).argmax(1) == b).sum().item() for a, b in val_loader)
        print(step, loss.item(), good / 200)
