"""A Trainer class that keeps the best weights, steps a schedule each epoch and writes checkpoints."""

import copy
import os
import tempfile

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split


class Trainer:
    def __init__(self, model, loaders, lr=0.05, epochs=6):
        self.model, self.loaders, self.epochs = model, loaders, epochs
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, step_size=2, gamma=0.3)
        self.best_accuracy, self.best_weights = 0.0, None
        self.folder = tempfile.mkdtemp()

    def fit(self):
        for epoch in range(self.epochs):
            loss = self.train_epoch()
            accuracy = self.evaluate(self.loaders["val"])
            self.scheduler.step()
            if accuracy > self.best_accuracy and epoch < self.epochs - 1:
                self.best_accuracy = accuracy
                self.best_weights = copy.deepcopy(self.model.state_dict())
            torch.save(self.model.state_dict(), os.path.join(self.folder, f"epoch{epoch}.pt"))
            print(f"epoch {epoch}: loss {loss:.3f}, accuracy {accuracy:.3f}")
        self.model.load_state_dict(self.best_weights)
        torch.save(self.best_weights, os.path.join(self.folder, "best.pt"))

    def train_epoch(self):
        self.model.train()
        total = 0.0
        for images, labels in self.loaders["train"]:
            self.optimizer.zero_grad()
            loss = self.criterion(self.model(images), labels)
            loss.backward()
            self.optimizer.step()
            total += loss.item()
        return total / len(self.loaders["train"])

    @torch.no_grad()
    def evaluate(self, loader):
        self.model.eval()
        correct = 0
        for images, labels in loader:
            predicted = self.model(images).argmax(dim=1)
            correct += (predicted == labels).sum().item()
        return correct / len(loader.dataset)


def main():
    torch.manual_seed(int(os.environ.get("SEED", "0")))
    images, labels = load_digits(return_X_y=True)
    dataset = TensorDataset(torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8) / 16, torch.tensor(labels))
    train_set, val_set, _ = random_split(dataset, [500, 150, len(dataset) - 650])
    loaders = {
        "train": DataLoader(train_set, batch_size=25, shuffle=True),
        "val": DataLoader(val_set, batch_size=75),
    }
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(288, 10)
    )
    Trainer(model, loaders).fit()


if __name__ == "__main__":
    main()
