"""A project from a template: arguments, meters, warm-up, mixed precision and ranks where there are any."""

import argparse
import json
import logging
import math
import os
import random
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

logger = logging.getLogger(__name__)


def get_args_parser():
    parser = argparse.ArgumentParser("digits classification", add_help=False)
    parser.add_argument("--batch-size", default=48, type=int)
    parser.add_argument("--epochs", default=6, type=int)
    parser.add_argument("--lr", default=0.1, type=float)
    parser.add_argument("--momentum", default=0.9, type=float)
    parser.add_argument("--weight-decay", default=1e-4, type=float)
    parser.add_argument("--label-smoothing", default=0.1, type=float)
    parser.add_argument("--warmup-epochs", default=1, type=int)
    parser.add_argument("--clip-grad", default=5.0, type=float)
    parser.add_argument("--output-dir", default="", type=str)
    parser.add_argument("--resume", default="", type=str)
    parser.add_argument("--stop-after", default=None, type=int)
    parser.add_argument("--seed", default=int(os.environ.get("SEED", 0)), type=int)
    return parser


class AverageMeter:
    def __init__(self, name):
        self.name = name
        self.reset()

    def reset(self):
        self.sum = 0.0
        self.count = 0

    def update(self, val, n=1):
        self.sum += val * n
        self.count += n

    @property
    def avg(self):
        return self.sum / max(1, self.count)


def init_distributed_mode():
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        logger.info("Not using distributed mode")
        return False
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return True


def is_main_process():
    return not dist.is_initialized() or dist.get_rank() == 0


def set_seed(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu(out + x)


class SmallResNet(nn.Module):
    def __init__(self, num_classes=10, width=16, depth=2):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.layers = nn.Sequential(*[Block(width) for _ in range(depth)])
        self.head = nn.Linear(width * 4, num_classes)

    def forward(self, x):
        x = self.layers(self.stem(x))
        return self.head(nn.functional.adaptive_avg_pool2d(x, 2).flatten(1))


def build_loaders(args, distributed):
    x, y = load_digits(return_X_y=True)
    x = torch.tensor(x, dtype=torch.float32).view(-1, 1, 8, 8) / 16.0
    x = (x - 0.3053) / 0.3761
    y = torch.tensor(y)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(42))
    train_set = TensorDataset(x[order[:1400]], y[order[:1400]])
    val_set = TensorDataset(x[order[1400:]], y[order[1400:]])
    train_sampler = DistributedSampler(train_set) if distributed else None
    train_loader = DataLoader(
        train_set, args.batch_size, shuffle=train_sampler is None, sampler=train_sampler, drop_last=True
    )
    val_loader = DataLoader(val_set, 128, shuffle=False)
    return train_loader, val_loader, train_sampler


def accuracy(output, target):
    pred = output.argmax(dim=1)
    return (pred == target).float().mean().item()


def train_one_epoch(model, criterion, optimizer, scheduler, scaler, loader, device, epoch, args):
    model.train()
    loss_meter, acc_meter = AverageMeter("loss"), AverageMeter("acc")
    for step, (images, target) in enumerate(loader):
        images, target = images.to(device, non_blocking=True), target.to(device, non_blocking=True)
        with torch.autocast(device_type=device.type, enabled=device.type == "cuda"):
            output = model(images)
            loss = criterion(output, target)
        if not math.isfinite(loss.item()):
            raise SystemExit(f"Loss is {loss.item()}, stopping training")
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip_grad)
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()
        loss_meter.update(loss.item(), images.size(0))
        acc_meter.update(accuracy(output, target), images.size(0))
        if step % 10 == 0:
            logger.info("epoch %d step %d loss %.4f", epoch, step, loss_meter.avg)
    return {"train_loss": loss_meter.avg, "train_acc": acc_meter.avg}


@torch.no_grad()
def evaluate(model, criterion, loader, device):
    model.eval()
    loss_meter, acc_meter = AverageMeter("loss"), AverageMeter("acc")
    for images, target in loader:
        images, target = images.to(device), target.to(device)
        output = model(images)
        loss = criterion(output, target)
        loss_meter.update(loss.item(), images.size(0))
        acc_meter.update(accuracy(output, target), images.size(0))
    return {"val_loss": loss_meter.avg, "val_acc": acc_meter.avg}


def main(args):
    distributed = init_distributed_mode()
    set_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train_loader, val_loader, train_sampler = build_loaders(args, distributed)

    model = SmallResNet().to(device)
    model_without_ddp = model
    if distributed:
        model = nn.parallel.DistributedDataParallel(model)
        model_without_ddp = model.module

    criterion = nn.CrossEntropyLoss(label_smoothing=args.label_smoothing)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=args.lr, momentum=args.momentum, weight_decay=args.weight_decay, nesterov=True
    )
    total_steps = args.epochs * len(train_loader)
    warmup_steps = args.warmup_epochs * len(train_loader)
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=warmup_steps)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=total_steps - warmup_steps)
    scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, [warmup, cosine], milestones=[warmup_steps])
    scaler = torch.amp.GradScaler(device.type, enabled=device.type == "cuda")

    start_epoch, best_acc = 0, 0.0
    if args.resume:
        checkpoint = torch.load(args.resume, map_location="cpu")
        model_without_ddp.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        scheduler.load_state_dict(checkpoint["scheduler"])
        start_epoch = checkpoint["epoch"] + 1

    for epoch in range(start_epoch, args.epochs):
        if train_sampler is not None:
            train_sampler.set_epoch(epoch)
        tic = time.time()
        stats = train_one_epoch(model, criterion, optimizer, scheduler, scaler, train_loader, device, epoch, args)
        stats |= evaluate(model, criterion, val_loader, device)
        best_acc = max(best_acc, stats["val_acc"])
        if is_main_process():
            print(json.dumps({"epoch": epoch, "time": round(time.time() - tic, 1), **stats}))
            checkpoint = {
                "model": model_without_ddp.state_dict(),
                "optimizer": optimizer.state_dict(),
                "scheduler": scheduler.state_dict(),
                "epoch": epoch,
                "args": vars(args),
            }
            torch.save(checkpoint, Path(args.output_dir) / "checkpoint.pth")
        if args.stop_after is not None and epoch + 1 >= args.stop_after:
            break
    print(f"best accuracy {best_acc:.4f}")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    with tempfile.TemporaryDirectory() as folder:
        arguments = argparse.ArgumentParser(parents=[get_args_parser()]).parse_args()
        arguments.output_dir = arguments.output_dir or folder
        # the job is preempted after three epochs, and started again
        arguments.stop_after = 3
        main(arguments)
        arguments.resume, arguments.stop_after = str(Path(arguments.output_dir) / "checkpoint.pth"), None
        main(arguments)
