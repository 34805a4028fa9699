"""A Trainer class that calls callbacks."""

# ruff: noqa
# fmt: off
import os
import random

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Digits(Dataset):
    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        image = torch.as_tensor(self.x[i], dtype=torch.float32).reshape(1, 8, 8)
        return (image - 4.9) / 6.0, int(self.y[i])


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x):
        return torch.relu(x + self.body(x))


class Callback:
    def on_fit_start(self, trainer): ...
    def on_batch_end(self, trainer): ...
    def on_epoch_end(self, trainer): ...
    def on_fit_end(self, trainer): ...


class Schedule(Callback):
    def on_fit_start(self, trainer):
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(trainer.optimizer, T_max=trainer.epochs)

    def on_epoch_end(self, trainer):
        self.scheduler.step()


class KeepBest(Callback):
    def on_fit_start(self, trainer):
        self.best, self.weights = -1.0, None

    def on_epoch_end(self, trainer):
        if trainer.logs["val_acc"] > self.best:
            self.best = trainer.logs["val_acc"]
            self.weights = {k: v.cpu().clone() for k, v in trainer.model.state_dict().items()}

    def on_fit_end(self, trainer):
        trainer.model.load_state_dict(self.weights)


class History(Callback):
    def on_fit_start(self, trainer):
        self.losses = []

    def on_batch_end(self, trainer):
        self.losses.append(trainer.loss.detach())

    def on_epoch_end(self, trainer):
        print(trainer.epoch, torch.stack(self.losses[-20:]).mean().item(), trainer.logs)


class Trainer:
    def __init__(self, model, optimizer, loss_fn, callbacks):
        self.model, self.optimizer, self.loss_fn = model, optimizer, loss_fn
        self.callbacks, self.logs = callbacks, {}

    def call(self, event):
        for callback in self.callbacks:
            getattr(callback, event)(self)

    def fit(self, train_loader, val_loader, epochs):
        self.epochs = epochs
        self.call("on_fit_start")
        for self.epoch in range(epochs):
            self.model.train()
            for batch in train_loader:
                self.training_step(batch)
                self.call("on_batch_end")
            self.logs["val_acc"] = self.validate(val_loader)
            self.call("on_epoch_end")
        self.call("on_fit_end")

    def training_step(self, batch):
        x, y = batch
        self.optimizer.zero_grad(set_to_none=True)
        self.loss = self.loss_fn(self.model(x), y)
        self.loss.backward()
        self.optimizer.step()

    @torch.inference_mode()
    def validate(self, loader):
        self.model.eval()
        hits = [(self.model(x).argmax(1) == y).float() for x, y in loader]
        return torch.cat(hits).mean().item()


if __name__ == "__main__":
    seed = int(os.environ.get("SEED", "0"))
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    x, y = load_digits(return_X_y=True)
    x_train, x_val, y_train, y_val = train_test_split(x, y, test_size=0.25, random_state=0, stratify=y)
    train_loader = DataLoader(Digits(x_train, y_train), batch_size=64, shuffle=True, drop_last=True)
    val_loader = DataLoader(Digits(x_val, y_val), batch_size=128)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), Block(16), nn.MaxPool2d(2), Block(16), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Dropout(0.2), nn.Linear(64, 10),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    trainer = Trainer(model, optimizer, nn.CrossEntropyLoss(), [Schedule(), KeepBest(), History()])
    trainer.fit(train_loader, val_loader, epochs=6)
    print("final", trainer.validate(val_loader))
