"""A distributed sampler (of one process of two), gradients accumulated, a U-shaped network on masks."""

# ruff: noqa
# fmt: off
import os

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

torch.manual_seed(int(os.environ.get("SEED", "0")))


class Blobs(Dataset):
    def __init__(self, count, seed):
        self.count, self.seed = count, seed

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        g = torch.Generator().manual_seed(self.seed * 100003 + i)
        cx, cy, r = torch.rand(3, generator=g).tolist()
        grid = torch.linspace(0, 1, 16)
        mask = ((grid[:, None] - cy) ** 2 + (grid[None] - cx) ** 2 < (0.15 + 0.2 * r) ** 2).float()
        image = mask * 0.8 + 0.3 * torch.randn(16, 16, generator=g)
        return image[None], mask[None]


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down1 = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU())
        self.down2 = nn.Sequential(nn.Conv2d(12, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU())
        self.up = nn.ConvTranspose2d(24, 12, 2, stride=2)
        self.out = nn.Sequential(nn.Conv2d(24, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 1, 1))

    def forward(self, x):
        a = self.down1(x)
        b = self.down2(nn.functional.max_pool2d(a, 2))
        return self.out(torch.cat([a, self.up(b)], 1))


def dice(logits, mask):
    p = logits.sigmoid()
    return 1 - (2 * (p * mask).sum() + 1) / (p.sum() + mask.sum() + 1)


train_set, val_set = Blobs(400, 1), Blobs(120, 2)
sampler = DistributedSampler(train_set, num_replicas=2, rank=0, shuffle=True)
train_loader = DataLoader(train_set, batch_size=8, sampler=sampler)
val_loader = DataLoader(val_set, batch_size=40)
net = UNet()
optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
bce = nn.BCEWithLogitsLoss()
for epoch in range(5):
    sampler.set_epoch(epoch)
    net.train()
    running = 0.0
    for image, mask in train_loader:
        logits = net(image)
        loss = bce(logits, mask) + dice(logits, mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        running += loss.item()
    net.eval()
    union = overlap = 0.0
    with torch.no_grad():
        for image, mask in val_loader:
            guess = (net(image) > 0).float()
            overlap += (guess * mask).sum().item()
            union += torch.maximum(guess, mask).sum().item()
    print(epoch, running / len(train_loader), "intersection over union", overlap / union)
    torch.save(net.state_dict(), "unet.pt")
