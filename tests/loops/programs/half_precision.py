"""A convolutional net under bf16 autocast, trained with a teacher's soft answers beside the labels."""

import os

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(int(os.environ.get("SEED", "0")))
images, labels = load_digits(return_X_y=True)
images, labels = torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8) / 8 - 1, torch.tensor(labels)
loader = DataLoader(TensorDataset(images[:800], labels[:800]), batch_size=40, shuffle=True)


def build(width):
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.SiLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(width * 16, 10),
    )


def fit(net, epochs, teacher=None):
    optimizer = torch.optim.AdamW(net.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs * len(loader))
    for epoch in range(epochs):
        net.train()
        for image, label in loader:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = net(image)
                loss = F.cross_entropy(logits, label)
            if teacher is not None:
                with torch.no_grad():
                    soft = teacher(image).softmax(-1)
                loss = 0.5 * loss + 0.5 * F.kl_div(F.log_softmax(logits.float(), -1), soft, reduction="batchmean")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(epoch, loss.item())
    return net.eval()


teacher = fit(build(24), 3)
student = fit(build(8), 3, teacher)
with torch.no_grad():
    print((student(images[800:1000]).argmax(1) == labels[800:1000]).float().mean().item())
