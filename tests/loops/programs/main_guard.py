"""A script with arguments and a main function: nothing but definitions at the top level. Regression of a table."""

import argparse
import os

import torch
from sklearn.datasets import load_diabetes
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Regressor(nn.Module):
    def __init__(self, features, width):
        super().__init__()
        self.hidden = nn.Linear(features, width)
        self.inner = nn.Linear(width, width)
        self.out = nn.Linear(width, 1)

    def forward(self, x):
        x = torch.relu(self.hidden(x))
        x = torch.relu(self.inner(x))
        return self.out(x).squeeze(-1)


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--width", type=int, default=32)
    return parser.parse_args()


def run_epoch(model, loader, criterion, optimizer=None):
    model.train(optimizer is not None)
    total = 0.0
    for features, target in loader:
        with torch.set_grad_enabled(optimizer is not None):
            loss = criterion(model(features), target)
        if optimizer is not None:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        total += loss.item() * len(features)
    return total / len(loader.dataset)


def main():
    args = parse()
    torch.manual_seed(int(os.environ.get("SEED", "0")))
    features, target = (torch.tensor(part, dtype=torch.float32) for part in load_diabetes(return_X_y=True))
    features = (features - features.mean(0)) / features.std(0)
    target = (target - target.mean()) / target.std()
    train = DataLoader(TensorDataset(features[:352], target[:352]), batch_size=32, shuffle=True)
    valid = DataLoader(TensorDataset(features[352:], target[352:]), batch_size=45)
    model = Regressor(features.shape[1], args.width)
    criterion = nn.MSELoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    for epoch in range(args.epochs):
        print(epoch, run_epoch(model, train, criterion, optimizer), run_epoch(model, valid, criterion))


if __name__ == "__main__":
    main()
