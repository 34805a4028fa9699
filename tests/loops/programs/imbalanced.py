"""Rare faults of a machine from its vibration: a weighted sampler, focal loss, F1 of the rare class, early stopping."""

import os
import sys

import numpy as np
import torch
import torch.nn as nn
from sklearn.metrics import f1_score
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler
from tqdm.auto import tqdm

SEED = int(os.environ.get("SEED", 0))
np.random.seed(SEED)
torch.manual_seed(SEED)


def make_signals(n, seed, rare=0.06):
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < rare).astype(np.int64)
    t = np.arange(64)
    signals = np.sin(t[None] * rng.uniform(0.2, 0.5, (n, 1)) + rng.uniform(0, 6.28, (n, 1)))
    signals += rng.normal(0, 0.3, (n, 64))
    for i in np.flatnonzero(labels):
        place = rng.integers(4, 56)
        signals[i, place : place + 6] += rng.choice([-1, 1]) * np.array([1, -2, 2.5, -2.5, 2, -1]) * 0.8
    return signals.astype(np.float32), labels


class VibrationDataset(Dataset):
    def __init__(self, signals, labels, train=False):
        self.signals, self.labels, self.train = signals, labels, train

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, idx):
        x = torch.from_numpy(self.signals[idx]).unsqueeze(0)
        if self.train:
            x = x * torch.empty(1).uniform_(0.8, 1.2)
        return {"signal": x, "label": torch.tensor(self.labels[idx])}


class FocalLoss(nn.Module):
    def __init__(self, gamma=2.0):
        super().__init__()
        self.gamma = gamma
        self.ce = nn.CrossEntropyLoss(reduction="none")

    def forward(self, logits, targets):
        ce = self.ce(logits, targets)
        pt = torch.exp(-ce)
        return ((1 - pt) ** self.gamma * ce).mean()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv1d(1, 16, 7, padding=3), nn.BatchNorm1d(16), nn.ReLU(), nn.MaxPool1d(2),
            nn.Conv1d(16, 32, 5, padding=2), nn.BatchNorm1d(32), nn.ReLU(), nn.AdaptiveMaxPool1d(1), nn.Flatten(),
        )  # fmt: skip
        self.classifier = nn.Sequential(nn.Dropout(0.3), nn.Linear(32, 2))

    def forward(self, x):
        return self.classifier(self.features(x))


class EarlyStopping:
    def __init__(self, patience=3, delta=0.0):
        self.patience, self.delta, self.counter = patience, delta, 0
        self.best_score, self.early_stop, self.best_weights = None, False, None

    def __call__(self, score, model):
        if self.best_score is None or score > self.best_score + self.delta:
            self.best_score, self.counter = score, 0
            self.save_checkpoint(model)
        else:
            self.counter += 1
            self.early_stop = self.counter >= self.patience

    def save_checkpoint(self, model):
        self.best_weights = {name: value.cpu().clone() for name, value in model.state_dict().items()}


def train_epoch(model, loader, loss_fn, optimizer, scheduler):
    model.train()
    running = []
    bar = tqdm(loader, desc="train", file=sys.stderr, disable=None)
    for batch in bar:
        logits = model(batch["signal"])
        loss = loss_fn(logits, batch["label"])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
        running.append(loss.item())
        bar.set_postfix(loss=np.mean(running[-20:]))
    return float(np.mean(running))


@torch.inference_mode()
def valid_epoch(model, loader, loss_fn):
    model.eval()
    losses, preds, targets = [], [], []
    for batch in loader:
        logits = model(batch["signal"])
        losses.append(loss_fn(logits, batch["label"]).item())
        preds.extend(logits.argmax(dim=1).tolist())
        targets.extend(batch["label"].tolist())
    return float(np.mean(losses)), f1_score(targets, preds, zero_division=0)


def main():
    train_x, train_y = make_signals(1500, seed=1)
    valid_x, valid_y = make_signals(500, seed=2)
    weights = 1.0 / np.bincount(train_y)[train_y]
    sampler = WeightedRandomSampler(torch.as_tensor(weights), num_samples=len(weights), replacement=True)
    train_loader = DataLoader(VibrationDataset(train_x, train_y, train=True), batch_size=32, sampler=sampler)
    valid_loader = DataLoader(VibrationDataset(valid_x, valid_y), batch_size=128)
    epochs = 6
    model = Net()
    loss_fn = FocalLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs * len(train_loader))
    stopper = EarlyStopping(patience=3)
    for epoch in range(epochs):
        train_loss = train_epoch(model, train_loader, loss_fn, optimizer, scheduler)
        valid_loss, f1 = valid_epoch(model, valid_loader, loss_fn)
        print(f"epoch {epoch:02d} train {train_loss:.4f} valid {valid_loss:.4f} f1 {f1:.3f}")
        stopper(f1, model)
        if stopper.early_stop:
            print("early stopping")
            break
    model.load_state_dict(stopper.best_weights)
    print(f"best f1 {valid_epoch(model, valid_loader, loss_fn)[1]:.3f}")


if __name__ == "__main__":
    main()
