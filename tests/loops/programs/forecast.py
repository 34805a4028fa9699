"""A forecaster of hourly demand: windows in a Dataset, an LSTM, an EarlyStopping class, error in units of the data."""

import logging
import os

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
log = logging.getLogger("forecast")

seed = int(os.environ.get("SEED", 0))
np.random.seed(seed)
torch.manual_seed(seed)


def make_demand(hours=1600):
    rng = np.random.default_rng(11)
    t = np.arange(hours)
    daily = 40 * np.sin(2 * np.pi * t / 24) + 12 * np.sin(2 * np.pi * t / 12 + 1)
    weekly = 15 * np.sin(2 * np.pi * t / 168)
    return 200 + daily + weekly + rng.normal(0, 4, hours)


class WindowDataset(Dataset):
    def __init__(self, series, history=48, horizon=1):
        self.series = torch.tensor(series, dtype=torch.float32)
        self.history = history
        self.horizon = horizon

    def __len__(self):
        return len(self.series) - self.history - self.horizon + 1

    def __getitem__(self, i):
        window = self.series[i : i + self.history].unsqueeze(-1)
        target = self.series[i + self.history + self.horizon - 1]
        return window, target


class Forecaster(nn.Module):
    def __init__(self, hidden=32):
        super().__init__()
        self.lstm = nn.LSTM(1, hidden, batch_first=True)
        self.drop = nn.Dropout(0.1)
        self.fc = nn.Linear(hidden, 1)

    def forward(self, x):
        out, _ = self.lstm(x)
        return self.fc(self.drop(out[:, -1])).squeeze(-1)


class EarlyStopping:
    def __init__(self, patience=5):
        self.patience = patience
        self.best = float("inf")
        self.wait = 0
        self.state = None

    def step(self, value, model):
        if value < self.best:
            self.best = value
            self.wait = 0
            self.state = {k: v.detach().clone() for k, v in model.state_dict().items()}
        else:
            self.wait += 1
        return self.wait >= self.patience


def run_epoch(model, loader, criterion, optimizer=None):
    training = optimizer is not None
    model.train(training)
    total = 0.0
    with torch.set_grad_enabled(training):
        for x, y in loader:
            prediction = model(x)
            loss = criterion(prediction, y)
            if training:
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
            total += loss.item() * len(x)
    return total / len(loader.dataset)


def main():
    demand = make_demand()
    cut = int(len(demand) * 0.8)
    mean, std = demand[:cut].mean(), demand[:cut].std()
    scaled = (demand - mean) / std
    train_set = WindowDataset(scaled[:cut])
    val_set = WindowDataset(scaled[cut:])
    train_loader = DataLoader(train_set, batch_size=64, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=256)

    model = Forecaster()
    criterion = nn.MSELoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.9)
    stopper = EarlyStopping(patience=4)

    for epoch in range(10):
        train_loss = run_epoch(model, train_loader, criterion, optimizer)
        val_loss = run_epoch(model, val_loader, criterion)
        scheduler.step()
        log.info("epoch %d train %.4f val %.4f rmse %.2f", epoch, train_loss, val_loss, val_loss**0.5 * std)
        if stopper.step(val_loss, model):
            log.info("early stop at epoch %d", epoch)
            break

    model.load_state_dict(stopper.state)
    final = run_epoch(model, val_loader, criterion)
    naive = np.sqrt(np.mean((demand[cut + 48 :] - demand[cut + 47 : -1]) ** 2))
    log.info("rmse %.2f, of the value before %.2f", final**0.5 * std, naive)


if __name__ == "__main__":
    main()
