"""Accelerate with gradient accumulation and a one-cycle schedule."""

# ruff: noqa
# fmt: off
import os

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def main():
    set_seed(int(os.environ.get("SEED", "0")))
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    images, labels = load_digits(return_X_y=True)
    images, labels = torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    images, labels = images[order], labels[order]
    train = DataLoader(TensorDataset(images[:1400], labels[:1400]), batch_size=16, shuffle=True)
    val = DataLoader(TensorDataset(images[1400:], labels[1400:]), batch_size=100)
    model = nn.Sequential(
        nn.Linear(64, 128), nn.LayerNorm(128), nn.SiLU(), nn.Dropout(0.1), nn.Linear(128, 64), nn.SiLU(), nn.Linear(64, 10)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    epochs = 5
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=epochs * len(train))
    model, optimizer, train, val, scheduler = accelerator.prepare(model, optimizer, train, val, scheduler)
    criterion = nn.CrossEntropyLoss()
    for epoch in range(epochs):
        model.train()
        total = 0.0
        for inputs, targets in train:
            with accelerator.accumulate(model):
                loss = criterion(model(inputs), targets)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            total += loss.item()
        model.eval()
        right = count = 0
        for inputs, targets in val:
            with torch.no_grad():
                guess = model(inputs).argmax(dim=-1)
            guess, targets = accelerator.gather_for_metrics((guess, targets))
            right += (guess == targets).sum().item()
            count += len(targets)
        accelerator.print(f"epoch {epoch} loss {total / len(train):.3f} accuracy {right / count:.3f}")


main()
