"""A regression in one function: warm-up by hand, clipping, early stopping."""

# ruff: noqa
# fmt: off
import os

import numpy as np
import torch
from torch import nn


def run(seed):
    torch.manual_seed(seed)
    rng = np.random.default_rng(7)
    x = rng.normal(size=(1200, 6)).astype("float32")
    y = (2 * x[:, 0] - x[:, 1] * x[:, 2] + np.sin(2 * x[:, 3]) + 0.1 * rng.normal(size=1200)).astype("float32")
    train_x, train_y = torch.from_numpy(x[:900]), torch.from_numpy(y[:900])
    val_x, val_y = torch.from_numpy(x[900:]), torch.from_numpy(y[900:])
    model = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    criterion = nn.MSELoss()
    opt = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
    batch_size, warmup, step = 32, 30, 0
    best, patience, best_state = float("inf"), 0, None
    losses = []
    for epoch in range(15):
        model.train()
        order = torch.randperm(len(train_x))
        for begin in range(0, len(order), batch_size):
            index = order[begin : begin + batch_size]
            for group in opt.param_groups:
                group["lr"] = 3e-3 * min(1.0, (step + 1) / warmup)
            prediction = model(train_x[index]).squeeze(1)
            loss = criterion(prediction, train_y[index])
            opt.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            opt.step()
            losses.append(loss.item())
            step += 1
        model.eval()
        with torch.no_grad():
            val_loss = criterion(model(val_x).squeeze(1), val_y).item()
        print(f"epoch {epoch} train {np.mean(losses[-28:]):.4f} val {val_loss:.4f}")
        if val_loss < best:
            best, patience = val_loss, 0
            best_state = {k: v.detach().clone() for k, v in model.state_dict().items()}
        else:
            patience += 1
            if patience > 4:
                print("stopping early")
                break
    model.load_state_dict(best_state)
    model.eval()
    with torch.no_grad():
        print("best", best, "restored", criterion(model(val_x).squeeze(1), val_y).item())


run(int(os.environ.get("SEED", "0")))
