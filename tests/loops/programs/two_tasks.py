"""One trunk, two heads: which digit, and how much ink; two losses, two parameter groups."""

# ruff: noqa
# fmt: off
import os

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset, random_split


class InkedDigits(Dataset):
    def __init__(self):
        bunch = load_digits()
        self.images = torch.tensor(bunch.images, dtype=torch.float32).unsqueeze(1) / 16
        self.labels = torch.tensor(bunch.target)
        ink = self.images.mean((1, 2, 3))
        self.ink = (ink - ink.mean()) / ink.std()

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return {"image": self.images[index], "label": self.labels[index], "ink": self.ink[index]}


class MultiTask(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.1),
        )
        self.classify = nn.Linear(128, 10)
        self.regress = nn.Sequential(nn.Linear(128, 32), nn.Tanh(), nn.Linear(32, 1))

    def forward(self, image):
        shared = self.trunk(image)
        return {"class": self.classify(shared), "ink": self.regress(shared)}


def compute_losses(outputs, batch):
    return {
        "class": nn.functional.cross_entropy(outputs["class"], batch["label"]),
        "ink": nn.functional.mse_loss(outputs["ink"].squeeze(-1), batch["ink"]),
    }


def main():
    torch.manual_seed(int(os.environ.get("SEED", "0")))
    dataset = InkedDigits()
    train_set, val_set, test_set = random_split(dataset, [0.7, 0.15, 0.15], torch.Generator().manual_seed(9))
    loaders = {
        "train": DataLoader(train_set, batch_size=32, shuffle=True),
        "val": DataLoader(val_set, batch_size=64),
        "test": DataLoader(test_set, batch_size=64),
    }
    model = MultiTask()
    optimizer = torch.optim.AdamW(
        [
            {"params": model.trunk.parameters(), "lr": 1e-3},
            {"params": model.classify.parameters()},
            {"params": model.regress.parameters()},
        ],
        lr=3e-3,
    )
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=2)
    weights = {"class": 1.0, "ink": 0.5}
    for epoch in range(5):
        for phase in ("train", "val"):
            model.train(phase == "train")
            sums, seen = {"class": 0.0, "ink": 0.0}, 0
            with torch.set_grad_enabled(phase == "train"):
                for batch in loaders[phase]:
                    outputs = model(batch["image"])
                    losses = compute_losses(outputs, batch)
                    if phase == "train":
                        total = sum(weights[k] * v for k, v in losses.items())
                        optimizer.zero_grad()
                        total.backward()
                        optimizer.step()
                    for k, v in losses.items():
                        sums[k] += v.item() * len(batch["label"])
                    seen += len(batch["label"])
            print(epoch, phase, {k: round(v / seen, 4) for k, v in sums.items()})
        scheduler.step(sums["class"] / seen)
    model.eval()
    hits = 0
    with torch.no_grad():
        for batch in loaders["test"]:
            hits += (model(batch["image"])["class"].argmax(dim=1) == batch["label"]).sum().item()
    print("test", hits / len(test_set))


if __name__ == "__main__":
    main()
