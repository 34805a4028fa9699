"""A ResNet of three stages on the handwritten digits; SGD with Nesterov momentum under one-cycle, decay on matrices."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset

from diagnose import Pipeline

EPOCHS, BATCH, MAX_LR = 8, 32, 0.2


class Jitter:
    """Shifts by a pixel, changes brightness a little."""

    def __init__(self, strength=0.1):
        self.strength = strength

    def __call__(self, image):
        dy, dx = torch.randint(-1, 2, (2,)).tolist()
        return torch.roll(image, (dy, dx), (1, 2)) + self.strength * torch.randn_like(image)


class DigitsSet(Dataset):
    def __init__(self, split, transform=None):
        data = load_digits()
        order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(3))
        order = order[:1300] if split == "train" else order[1300:]
        self.images = torch.tensor(data.images, dtype=torch.float32)[order, None] / 8 - 1
        self.targets = torch.tensor(data.target)[order]
        self.transform = transform

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        image = self.images[index]
        if self.transform is not None:
            image = self.transform(image)
        return image, int(self.targets[index])


class Residual(nn.Module):
    def __init__(self, width_in, width_out, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width_out)
        self.conv2 = nn.Conv2d(width_out, width_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width_out)
        self.relu = nn.ReLU(inplace=True)
        self.short = nn.Identity()
        if stride != 1 or width_in != width_out:
            self.short = nn.Sequential(nn.Conv2d(width_in, width_out, 1, stride, bias=False), nn.BatchNorm2d(width_out))

    def forward(self, x):
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(out + self.short(x))


class TinyResNet(nn.Module):
    def __init__(self, width=12, p=0.1):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.stages = nn.Sequential(Residual(width, width), Residual(width, 2 * width, 2))
        self.pool, self.drop = nn.AdaptiveAvgPool2d(1), nn.Dropout(p)
        self.fc = nn.Linear(2 * width, 10)

    def forward(self, x):
        return self.fc(self.drop(self.pool(self.stages(self.stem(x))).flatten(1)))


def build():
    model = TinyResNet()
    train = DataLoader(DigitsSet("train", Jitter()), batch_size=BATCH, shuffle=True, drop_last=True)
    val = DataLoader(DigitsSet("val"), batch_size=100)
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.SGD(
        [{"params": matrices, "weight_decay": 5e-4}, {"params": vectors}], lr=0.05, momentum=0.9, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, MAX_LR, total_steps=EPOCHS * len(train))
    return Pipeline(
        model=model,
        train=train,
        val=val,
        loss=nn.CrossEntropyLoss(label_smoothing=0.05),
        optimizer=optimizer,
        scheduler=schedule,
        scheduler_interval="step",
        epochs=EPOCHS,
    )
