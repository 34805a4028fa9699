"""torchvision's resnet18 with a new head on a folder of pictures: the transfer-learning tutorial."""

from __future__ import annotations

import functools
import io

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import models, transforms

from diagnose import Pipeline

CLASSES = ["ants", "bees", "wasps"]
normalize = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


@functools.lru_cache
def files(n=420):
    """Encoded PNG pictures and their class, as they would lie in folders."""
    rng = np.random.default_rng(3)
    found = []
    for i in range(n):
        label = i % 3
        y, x = np.mgrid[:40, :40] / 40
        angle = [0.2, 0.9, 2.2][label] + rng.normal(0, 0.12)
        wave = np.sin((np.cos(angle) * x + np.sin(angle) * y) * rng.uniform(14, 24) + rng.uniform(0, 6))
        image = 115 + 45 * wave[..., None] * rng.uniform(0.5, 1, 3) + rng.normal(0, 25, (40, 40, 3))
        data = io.BytesIO()
        Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(data, "PNG")
        found.append((data.getvalue(), label))
    return found


@functools.lru_cache
def pretrained_weights():
    """Stands for the file that is downloaded: weights of a whole resnet18 with 1000 classes."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        donor = models.resnet18(num_classes=1000)
        for parameter in donor.parameters():
            parameter.data += 0.02 * torch.randn_like(parameter) * parameter.data.abs().mean()
    return donor.state_dict()


class Folder(Dataset):
    def __init__(self, samples, transform):
        self.samples = samples
        self.transform = transform

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        data, label = self.samples[index]
        image = Image.open(io.BytesIO(data)).convert("RGB")
        return self.transform(image), label


def get_loaders():
    samples = files()
    train_transform = transforms.Compose(
        [transforms.RandomCrop(32), transforms.ColorJitter(0.2, 0.2), transforms.ToTensor(), normalize]
    )
    val_transform = transforms.Compose([transforms.CenterCrop(32), transforms.ToTensor(), normalize])
    train = Folder(samples[:320], train_transform)
    val = Folder(samples[320:], val_transform)
    return DataLoader(train, batch_size=16, shuffle=True), DataLoader(val, batch_size=16)


def get_model():
    model = models.resnet18()
    model.load_state_dict(pretrained_weights())
    model.fc = nn.Linear(model.fc.in_features, len(CLASSES))
    return model


def build():
    train, val = get_loaders()
    model = get_model()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.1)
    return Pipeline(
        model=model,
        train=train,
        val=val,
        loss=nn.CrossEntropyLoss(),
        optimizer=optimizer,
        scheduler=scheduler,
        num_classes=3,
        class_names=CLASSES,
        epochs=20,
        intents=["pretrained"],
    )
