"""Knowledge distillation: a frozen teacher in eval mode, a small student."""

# ruff: noqa
# fmt: off
import os

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(int(os.environ.get("SEED", "0")))
x, y = load_digits(return_X_y=True)
x, y = torch.tensor(x, dtype=torch.float32) / 16, torch.tensor(y)
perm = torch.randperm(len(x), generator=torch.Generator().manual_seed(5))
train_ds = TensorDataset(x[perm[:1300]], y[perm[:1300]])
val_ds = TensorDataset(x[perm[1300:]], y[perm[1300:]])
train_dl, val_dl = DataLoader(train_ds, 50, shuffle=True), DataLoader(val_ds, 497)


def mlp(width):
    return nn.Sequential(nn.Linear(64, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.3), nn.Linear(width, 10))


def accuracy(model):
    was_training = model.training
    model.eval()
    with torch.no_grad():
        score = sum((model(a).argmax(1) == b).sum().item() for a, b in val_dl) / len(val_ds)
    model.train(was_training)
    return score


teacher = mlp(256)
teacher_optimizer = torch.optim.Adam(teacher.parameters(), lr=3e-3)
for epoch in range(5):
    for a, b in train_dl:
        loss = F.cross_entropy(teacher(a), b)
        loss.backward()
        teacher_optimizer.step()
        teacher_optimizer.zero_grad()
    print("teacher", epoch, accuracy(teacher))

teacher.eval()
for p in teacher.parameters():
    p.requires_grad_(False)

student = mlp(24)
optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
T, alpha = 3.0, 0.7
for epoch in range(8):
    student.train()
    running = 0.0
    for a, b in train_dl:
        optimizer.zero_grad()
        with torch.no_grad():
            target = F.softmax(teacher(a) / T, dim=1)
        logits = student(a)
        soft = F.kl_div(F.log_softmax(logits / T, dim=1), target, reduction="batchmean") * T * T
        hard = F.cross_entropy(logits, b)
        loss = alpha * soft + (1 - alpha) * hard
        loss.backward()
        optimizer.step()
        running += loss.item() * len(b)
    print("student", epoch, running / len(train_ds), accuracy(student))
