"""Half precision with a loss scaler, accumulation with a remainder, clipping."""

# ruff: noqa
# fmt: off
import os

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(int(os.environ.get("SEED", "0")))
images, labels = load_digits(return_X_y=True)
images = torch.tensor(images, dtype=torch.float32) / 16
labels = torch.tensor(labels)
train_loader = DataLoader(TensorDataset(images[:1450], labels[:1450]), batch_size=20, shuffle=True)
valid_loader = DataLoader(TensorDataset(images[1450:], labels[1450:]), batch_size=100)
model = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Dropout(0.1), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 10))
loss_function = nn.CrossEntropyLoss(label_smoothing=0.05)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
accumulate = 4
for epoch in range(6):
    model.train()
    shown = 0.0
    for number, (data, target) in enumerate(train_loader, start=1):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = model(data)
            loss = loss_function(output, target) / accumulate
        scaler.scale(loss).backward()
        shown += loss.item()
        if number % accumulate == 0 or number == len(train_loader):
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
    model.eval()
    good = 0
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        for data, target in valid_loader:
            good += (model(data).argmax(-1) == target).sum().item()
    print(epoch, shown * accumulate / len(train_loader), good / 347)
