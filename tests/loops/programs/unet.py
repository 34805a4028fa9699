"""A small U-Net for blobs: Dice with BCE, gradient accumulation, IoU on a held-out set, best checkpoint reloaded."""

import os
import tempfile

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader, Dataset

torch.manual_seed(int(os.environ.get("SEED", 0)))

LR = 3e-3
EPOCHS = 5
BATCH_SIZE = 8
ACCUM_STEPS = 2
IMG_SIZE = 24


class BlobDataset(Dataset):
    def __init__(self, n, seed, augment=False):
        g = torch.Generator().manual_seed(seed)
        grid = torch.arange(IMG_SIZE).float()
        self.images, self.masks = [], []
        for _ in range(n):
            mask = torch.zeros(IMG_SIZE, IMG_SIZE, dtype=torch.bool)
            for _ in range(2):
                cy, cx = torch.rand(2, generator=g) * IMG_SIZE
                r = 2.5 + 3 * torch.rand(1, generator=g)
                mask |= (grid[:, None] - cy) ** 2 + (grid[None] - cx) ** 2 < r**2
            image = 0.3 + 0.4 * mask + 0.15 * torch.randn(IMG_SIZE, IMG_SIZE, generator=g)
            self.images.append((image - 0.4) / 0.25)
            self.masks.append(mask.float())
        self.augment = augment

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        image, mask = self.images[i][None], self.masks[i][None]
        if self.augment and torch.rand(1) < 0.5:
            image, mask = image.flip(-1), mask.flip(-1)
        return image, mask


class DoubleConv(nn.Module):
    def __init__(self, in_ch, out_ch):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(in_ch, out_ch, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_ch),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_ch, out_ch, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_ch),
            nn.ReLU(inplace=True),
        )

    def forward(self, x):
        return self.conv(x)


class UNET(nn.Module):
    def __init__(self, in_channels=1, out_channels=1, features=(8, 16)):
        super().__init__()
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        for feature in features:
            self.downs.append(DoubleConv(in_channels, feature))
            in_channels = feature
        self.bottleneck = DoubleConv(features[-1], features[-1] * 2)
        for feature in reversed(features):
            self.ups.append(nn.ConvTranspose2d(feature * 2, feature, kernel_size=2, stride=2))
            self.ups.append(DoubleConv(feature * 2, feature))
        self.final_conv = nn.Conv2d(features[0], out_channels, kernel_size=1)

    def forward(self, x):
        skips = []
        for down in self.downs:
            x = down(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.bottleneck(x)
        for i in range(0, len(self.ups), 2):
            x = self.ups[i](x)
            x = self.ups[i + 1](torch.cat([skips.pop(), x], dim=1))
        return self.final_conv(x)


class DiceBCELoss(nn.Module):
    def __init__(self, smooth=1.0):
        super().__init__()
        self.smooth = smooth

    def forward(self, logits, targets):
        probs = torch.sigmoid(logits).flatten(1)
        flat = targets.flatten(1)
        intersection = (probs * flat).sum(1)
        dice = 1 - (2 * intersection + self.smooth) / (probs.sum(1) + flat.sum(1) + self.smooth)
        return dice.mean() + F.binary_cross_entropy_with_logits(logits, targets)


def train_fn(loader, model, optimizer, loss_fn):
    model.train()
    epoch_loss = 0.0
    optimizer.zero_grad()
    for i, (images, masks) in enumerate(loader):
        predictions = model(images)
        loss = loss_fn(predictions, masks) / ACCUM_STEPS
        loss.backward()
        if (i + 1) % ACCUM_STEPS == 0 or i + 1 == len(loader):
            optimizer.step()
            optimizer.zero_grad()
        epoch_loss += loss.item() * ACCUM_STEPS
    return epoch_loss / len(loader)


def eval_fn(loader, model, loss_fn):
    model.eval()
    loss, inter, union = 0.0, 0.0, 0.0
    with torch.no_grad():
        for images, masks in loader:
            logits = model(images)
            loss += loss_fn(logits, masks).item()
            pred = (torch.sigmoid(logits) > 0.5).float()
            inter += (pred * masks).sum().item()
            union += ((pred + masks) > 0).float().sum().item()
    return loss / len(loader), inter / max(union, 1.0)


def main():
    train_ds = BlobDataset(192, seed=1, augment=True)
    val_ds = BlobDataset(64, seed=2)
    train_loader = DataLoader(train_ds, batch_size=BATCH_SIZE, shuffle=True)
    val_loader = DataLoader(val_ds, batch_size=BATCH_SIZE)
    model = UNET()
    loss_fn = DiceBCELoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR)
    scheduler = ReduceLROnPlateau(optimizer, mode="max", factor=0.5, patience=1)
    best_iou = 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "best.pth.tar")
        for epoch in range(EPOCHS):
            train_loss = train_fn(train_loader, model, optimizer, loss_fn)
            val_loss, iou = eval_fn(val_loader, model, loss_fn)
            scheduler.step(iou)
            print(f"epoch {epoch}: train {train_loss:.4f} val {val_loss:.4f} IoU {iou:.3f}")
            if iou > best_iou:
                best_iou = iou
                torch.save({"state_dict": model.state_dict(), "epoch": epoch, "iou": iou}, path)
        checkpoint = torch.load(path)
        model = UNET()
        model.load_state_dict(checkpoint["state_dict"])
        print(f"best IoU {eval_fn(val_loader, model, loss_fn)[1]:.3f}")


if __name__ == "__main__":
    main()
