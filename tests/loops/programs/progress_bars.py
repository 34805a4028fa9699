"""Helper modules beside the script, and progress bars around the loaders."""

# ruff: noqa
# fmt: off
import os
import sys
import tempfile
import textwrap

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm

HELPERS = textwrap.dedent('''
    import torch


    class AverageMeter:
        def __init__(self):
            self.sum = self.count = 0

        def update(self, value, n=1):
            self.sum += value * n
            self.count += n

        @property
        def avg(self):
            return self.sum / self.count


    def train_one_epoch(model, criterion, optimizer, loader, ema=None):
        model.train()
        meter = AverageMeter()
        for images, target in loader:
            output = model(images)
            loss = criterion(output, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if ema is not None:
                ema.update_parameters(model)
            meter.update(loss.item(), images.size(0))
            loader.set_postfix(loss=meter.avg)
        return meter.avg


    def evaluate(model, criterion, loader):
        model.eval()
        losses, top1 = AverageMeter(), AverageMeter()
        with torch.inference_mode():
            for images, target in loader:
                output = model(images)
                losses.update(criterion(output, target).item(), images.size(0))
                _, predicted = torch.max(output, 1)
                top1.update((predicted == target).float().mean().item(), images.size(0))
        return losses.avg, top1.avg
''')

folder = tempfile.mkdtemp()
with open(os.path.join(folder, "epoch_helpers.py"), "w") as f:
    f.write(HELPERS)
sys.path.insert(0, folder)
from epoch_helpers import evaluate, train_one_epoch  # noqa: E402

torch.manual_seed(int(os.environ.get("SEED", "0")))
x, y = load_digits(return_X_y=True)
x = torch.tensor(x, dtype=torch.float32).reshape(-1, 1, 8, 8).div(16)
y = torch.tensor(y)
mask = torch.rand(len(y), generator=torch.Generator().manual_seed(8)) < 0.8
train_loader = DataLoader(TensorDataset(x[mask], y[mask]), batch_size=48, shuffle=True)
val_loader = DataLoader(TensorDataset(x[~mask], y[~mask]), batch_size=96)
model = nn.Sequential(
    nn.Conv2d(1, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(inplace=True), nn.MaxPool2d(2),
    nn.Conv2d(24, 48, 3, padding=1), nn.BatchNorm2d(48), nn.ReLU(inplace=True), nn.Flatten(), nn.Dropout(0.3),
    nn.Linear(48 * 16, 10),
)
ema = AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.95), use_buffers=True)
criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
epochs = 5
warmup = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=1)
cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs - 1)
scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, [warmup, cosine], milestones=[1])
best = 0.0
for epoch in range(epochs):
    with tqdm(train_loader, desc=f"epoch {epoch}", disable=False) as bar:
        train_loss = train_one_epoch(model, criterion, optimizer, bar, ema)
    scheduler.step()
    val_loss, accuracy = evaluate(model, criterion, tqdm(val_loader, leave=False))
    ema_loss, ema_accuracy = evaluate(ema, criterion, val_loader)
    print(f"{epoch}: train {train_loss:.3f} val {val_loss:.3f} accuracy {accuracy:.3f} average {ema_accuracy:.3f}")
    if accuracy > best:
        best = accuracy
        torch.save({"state_dict": model.state_dict(), "ema": ema.state_dict()}, os.path.join(folder, "best.pth"))
model.load_state_dict(torch.load(os.path.join(folder, "best.pth"))["state_dict"])
print("best", best, evaluate(model, criterion, val_loader))
