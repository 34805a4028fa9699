"""Five kinds of coloured shapes; a small CNN with batch norm, SGD with momentum, random flips."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from diagnose import Pipeline

SIZE, CLASSES = 16, 5


def draw(kind, g):
    ys, xs = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    cy, cx = torch.randint(6, SIZE - 6, (2,), generator=g).tolist()
    r = int(torch.randint(4, 6, (1,), generator=g))
    dy, dx = (ys - cy).abs(), (xs - cx).abs()
    round_ = (ys - cy) ** 2 + (xs - cx) ** 2
    masks = (
        round_ <= r * r,
        (dy <= r - 1) & (dx <= r - 1),
        (dy <= r) & (dx <= r) & ((dy <= 1) | (dx <= 1)),
        (round_ <= r * r) & (round_ > (r - 2) ** 2),
        (dy <= r - 1) & (dx <= r - 1) & (ys % 3 == 0),
    )
    colour, ground = torch.rand(2, 3, 1, 1, generator=g)
    return torch.where(masks[kind], colour, ground) + 0.1 * torch.randn(3, SIZE, SIZE, generator=g)


class Shapes(Dataset):
    def __init__(self, count, seed, transform=None):
        g = torch.Generator().manual_seed(seed)
        self.labels = torch.randint(0, CLASSES, (count,), generator=g)
        self.images = torch.stack([draw(int(label), g) for label in self.labels])
        self.images = (self.images - 0.5) / 0.3
        self.transform = transform

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        image = self.images[i]
        if self.transform is not None:
            image = self.transform(image)
        return image, self.labels[i]


def augment(image):
    if torch.rand(()) < 0.5:
        image = image.flip(-1)
    return image


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(32)
        self.dropout = nn.Dropout(0.1)
        self.fc1 = nn.Linear(32 * 4 * 4, 64)
        self.fc2 = nn.Linear(64, CLASSES)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2)
        x = self.dropout(x.flatten(1))
        x = F.relu(self.fc1(x))
        return self.fc2(x)


def build():
    train = DataLoader(Shapes(2000, 0, augment), batch_size=50, shuffle=True)
    val = DataLoader(Shapes(500, 1), batch_size=100)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=8, gamma=0.1)
    return Pipeline(
        model=model,
        train=train,
        val=val,
        loss=nn.CrossEntropyLoss(),
        optimizer=optimizer,
        scheduler=scheduler,
        epochs=12,
    )
