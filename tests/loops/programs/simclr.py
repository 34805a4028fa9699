"""SimCLR on the digits: two augmented views of each picture, NT-Xent, then a linear probe on the frozen encoder."""

import os

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, Dataset

SEED = int(os.environ.get("SEED", 0))
torch.manual_seed(SEED)
config = {"epochs": 6, "batch_size": 128, "temperature": 0.5, "lr": 3e-3, "probe_epochs": 15, "feature_dim": 64}


class Augment:
    """Shift, scale, noise and erasing of an 8 x 8 picture."""

    def __call__(self, image):
        dx, dy = torch.randint(-1, 2, (2,)).tolist()
        image = torch.roll(image, (dx, dy), dims=(1, 2))
        image = image * (0.7 + 0.6 * torch.rand(1))
        if torch.rand(1) < 0.5:
            row, col = torch.randint(0, 6, (2,)).tolist()
            image = image.clone()
            image[:, row : row + 2, col : col + 2] = 0
        return image + 0.05 * torch.randn_like(image)


class TwoViews(Dataset):
    def __init__(self, images, labels, transform):
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.transform(self.images[i]), self.transform(self.images[i]), self.labels[i]


class Plain(Dataset):
    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.images[i], self.labels[i]


class SimCLR(nn.Module):
    def __init__(self, feature_dim, projection_dim=32):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1, stride=2), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Flatten(), nn.Linear(32 * 16, feature_dim),
        )  # fmt: skip
        self.projector = nn.Sequential(nn.Linear(feature_dim, 64), nn.ReLU(), nn.Linear(64, projection_dim))

    def forward(self, x):
        h = self.encoder(x)
        z = self.projector(h)
        return h, F.normalize(z, dim=1)


def nt_xent_loss(z_i, z_j, temperature):
    batch_size = z_i.shape[0]
    z = torch.cat([z_i, z_j], dim=0)
    sim = z @ z.T / temperature
    mask = torch.eye(2 * batch_size, dtype=torch.bool, device=z.device)
    sim = sim.masked_fill(mask, float("-inf"))
    target = torch.cat([torch.arange(batch_size) + batch_size, torch.arange(batch_size)]).to(z.device)
    return F.cross_entropy(sim, target)


def pretrain(model, loader):
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"], weight_decay=1e-6)
    model.train()
    for epoch in range(config["epochs"]):
        total = 0.0
        for x_i, x_j, _ in loader:
            _, z_i = model(x_i)
            _, z_j = model(x_j)
            loss = nt_xent_loss(z_i, z_j, config["temperature"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        print(f"pretrain epoch {epoch}: {total / len(loader):.4f}")


def linear_probe(model, train_loader, test_loader):
    encoder = model.encoder
    encoder.eval()
    for p in encoder.parameters():
        p.requires_grad = False
    classifier = nn.Linear(config["feature_dim"], 10)
    optimizer = torch.optim.Adam(classifier.parameters(), lr=1e-2)
    criterion = nn.CrossEntropyLoss()
    for epoch in range(config["probe_epochs"]):
        classifier.train()
        for x, y in train_loader:
            with torch.no_grad():
                features = encoder(x)
            loss = criterion(classifier(features), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    classifier.eval()
    correct = 0
    with torch.no_grad():
        for x, y in test_loader:
            correct += (classifier(encoder(x)).argmax(1) == y).sum().item()
    print(f"linear probe accuracy {correct / len(test_loader.dataset):.3f}")


def main():
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(digits.target)
    train_idx, test_idx = train_test_split(range(len(images)), test_size=0.25, random_state=0, stratify=labels)
    views = TwoViews(images[train_idx], labels[train_idx], Augment())
    loader = DataLoader(views, config["batch_size"], shuffle=True, drop_last=True)
    train_loader = DataLoader(Plain(images[train_idx], labels[train_idx]), 128, shuffle=True)
    test_loader = DataLoader(Plain(images[test_idx], labels[test_idx]), 256)
    model = SimCLR(config["feature_dim"])
    pretrain(model, loader)
    linear_probe(model, train_loader, test_loader)


if __name__ == "__main__":
    main()
