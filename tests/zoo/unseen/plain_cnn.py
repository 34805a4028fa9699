"""A CNN with BatchNorm on small colour pictures, as a CIFAR-10 tutorial writes it."""

from __future__ import annotations

import functools

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from diagnose import Pipeline

CLASSES = ["disc", "ring", "square", "plus", "rows", "columns"]
MEAN, STD = (0.37, 0.37, 0.37), (0.21, 0.21, 0.21)


@functools.lru_cache
def pictures(n=1400):
    """Drawn shapes on noise: (N, 32, 32, 3) bytes, and the labels."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:32, :32]
    images, labels = [], rng.integers(0, len(CLASSES), n)
    for label in labels:
        dy, dx, r = y - rng.integers(12, 20), x - rng.integers(12, 20), rng.integers(6, 11)
        d, box = np.hypot(dy, dx), np.maximum(abs(dy), abs(dx)) < r
        shape = [d < r, (d < r) & (d > r - 3), box, box & ((abs(dy) < 2) | (abs(dx) < 2)),
                 box & (dy % 4 < 2), box & (dx % 4 < 2)][label]  # fmt: skip
        image = np.where(shape[..., None], rng.integers(140, 255, 3), rng.integers(30, 130, 3))
        images.append(image + rng.normal(0, 20, (32, 32, 3)))
    return np.clip(images, 0, 255).astype(np.uint8), labels


class Shapes(Dataset):
    def __init__(self, images, labels, transform=None):
        self.images = images
        self.labels = labels
        self.transform = transform

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = Image.fromarray(self.images[index])
        label = int(self.labels[index])
        if self.transform is not None:
            image = self.transform(image)
        return image, label


train_transform = transforms.Compose([
    transforms.RandomCrop(32, padding=4, padding_mode="reflect"),
    transforms.RandomHorizontalFlip(),
    transforms.ToTensor(),
    transforms.Normalize(MEAN, STD),
])  # fmt: skip
val_transform = transforms.Compose([
    transforms.ToTensor(),
    transforms.Normalize(MEAN, STD),
])  # fmt: skip


class Net(nn.Module):
    def __init__(self, num_classes=len(CLASSES)):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(32)
        self.conv3 = nn.Conv2d(32, 64, 3, padding=1)
        self.bn3 = nn.BatchNorm2d(64)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(64 * 4 * 4, 64)
        self.dropout = nn.Dropout(0.3)
        self.fc2 = nn.Linear(64, num_classes)

    def forward(self, x):
        x = self.pool(F.relu(self.bn1(self.conv1(x))))
        x = self.pool(F.relu(self.bn2(self.conv2(x))))
        x = self.pool(F.relu(self.bn3(self.conv3(x))))
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(x))
        x = self.dropout(x)
        x = self.fc2(x)
        return x


def build():
    images, labels = pictures()
    train_set = Shapes(images[:1100], labels[:1100], train_transform)
    val_set = Shapes(images[1100:], labels[1100:], val_transform)
    train_loader = DataLoader(train_set, batch_size=32, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=64, shuffle=False)

    model = Net()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10)
    return Pipeline(
        model=model,
        train=train_loader,
        val=val_loader,
        loss=criterion,
        optimizer=optimizer,
        scheduler=scheduler,
        class_names=CLASSES,
        epochs=10,
    )
