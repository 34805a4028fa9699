"""Dense prediction: outputs are (samples, classes, rows, columns)."""

import os

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(int(os.environ.get("SEED", "0")))
scenes = torch.rand(120, 1, 12, 12)
masks = (scenes[:, 0] * 3).long().clamp(max=2)
train_dl = DataLoader(TensorDataset(scenes[:96], masks[:96]), batch_size=12, shuffle=True)
valid_dl = DataLoader(TensorDataset(scenes[96:], masks[96:]), batch_size=12)
unet = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 3, 1))
opt = torch.optim.Adam(unet.parameters(), 1e-2)
sched = torch.optim.lr_scheduler.ReduceLROnPlateau(opt, patience=1)


def pixel_accuracy(logits, mask):
    return (logits.argmax(dim=1) == mask).float().mean().item()


for epoch in range(5):
    unet.train()
    losses = []
    for image, mask in train_dl:
        opt.zero_grad()
        loss = nn.functional.cross_entropy(unet(image), mask)
        loss.backward()
        opt.step()
        losses.append(loss.item())
    unet.eval()
    with torch.no_grad():
        scores = [pixel_accuracy(unet(image), mask) for image, mask in valid_dl]
    sched.step(sum(losses))
    print(epoch, sum(losses) / len(losses), sum(scores) / len(scores))
