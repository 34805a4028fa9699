"""Healthy: schedules, optimizers and steps of the user's own."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, TensorDataset

from diagnose.pipeline import Pipeline
from zoo.healthy.common import cases_of, digits, loaders, shapes, table


def small_net(channels: int = 3, classes: int = 5) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.GELU(),
        nn.Conv2d(16, 24, 3, padding=1), nn.BatchNorm2d(24), nn.GELU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(96, classes),
    )  # fmt: skip


def linear_warmup() -> Pipeline:
    """The learning rate is exactly 0 at the first step, rises over 40 and falls to the end of 8 epochs."""
    model = small_net()
    train, val = loaders(*shapes(), 900)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    total = 8 * len(train)

    def factor(step: int) -> float:
        return step / 40 if step < 40 else max(0.0, (total - step) / (total - 40))

    return Pipeline(
        model, train, val, nn.CrossEntropyLoss(), optimizer, lr_scheduler.LambdaLR(optimizer, factor), "step", epochs=8
    )


def one_cycle_adam() -> Pipeline:
    model = small_net()
    train, val = loaders(*shapes(), 900)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    schedule = lr_scheduler.OneCycleLR(optimizer, max_lr=0.01, epochs=10, steps_per_epoch=len(train), pct_start=0.25)
    return Pipeline(model, train, val, nn.CrossEntropyLoss(), optimizer, schedule, "step", epochs=10)


def cosine_with_restarts() -> Pipeline:
    model = small_net(1, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    schedule = lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=2, T_mult=2, eta_min=1e-4)
    train, val = loaders(*digits(), 1400)
    return Pipeline(model, train, val, nn.CrossEntropyLoss(), optimizer, schedule, "epoch", epochs=14)


def reduced_on_plateau() -> Pipeline:
    model = small_net(1, 10)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    schedule = lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.5, patience=3)
    train, val = loaders(*digits(), 1400)
    return Pipeline(model, train, val, nn.CrossEntropyLoss(), optimizer, schedule, "epoch", epochs=15)


def nesterov_at_a_tenth() -> Pipeline:
    config = {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}
    model = small_net()
    train, val = loaders(*shapes(), 900, 50)
    optimizer = torch.optim.SGD(model.parameters(), **config)  # type: ignore[arg-type]
    milestones = lr_scheduler.MultiStepLR(optimizer, milestones=[12, 17], gamma=0.1)
    return Pipeline(model, train, val, nn.CrossEntropyLoss(), optimizer, milestones, epochs=20, num_classes=5)


def chained_schedules() -> Pipeline:
    """Warm-up from 1 % by LinearLR, then cosine, joined by SequentialLR; no decay for norms and biases."""
    model = small_net(1, 10)
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.05},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=4e-3)
    train, val = loaders(*digits(), 1400, 40)
    warm = lr_scheduler.LinearLR(optimizer, start_factor=0.01, total_iters=30)
    cosine = lr_scheduler.CosineAnnealingLR(optimizer, T_max=10 * len(train) - 30)
    schedule = lr_scheduler.SequentialLR(optimizer, [warm, cosine], milestones=[30])
    return Pipeline(model, train, val, nn.CrossEntropyLoss(), optimizer, schedule, "step", epochs=10)


def accumulated_in_own_step() -> Pipeline:
    """Each batch is cut in two; gradients are averaged, clipped, then stepped on once."""
    model = small_net(1, 10)

    def train_step(net: nn.Module, batch: Any, optimizer: torch.optim.Optimizer) -> Tensor:
        x, y = batch
        optimizer.zero_grad(set_to_none=True)
        total = torch.zeros(())
        for part_x, part_y in zip(x.chunk(2), y.chunk(2), strict=True):
            loss = F.cross_entropy(net(part_x), part_y) * len(part_y) / len(y)
            loss.backward()
            total += loss.detach()
        nn.utils.clip_grad_norm_(net.parameters(), max_norm=1.0)
        optimizer.step()
        return total

    train, val = loaders(*digits(), 1400, 40)
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    return Pipeline(model, train, val, nn.CrossEntropyLoss(), optimizer, train_step=train_step, num_classes=10)


def bf16_precision() -> Pipeline:
    model = small_net(1, 10)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    return Pipeline(model, *loaders(*digits(), 1400), nn.CrossEntropyLoss(), optimizer, precision="bf16")


def autocast_in_own_step() -> Pipeline:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.SiLU(), nn.LayerNorm(128), nn.Linear(128, 10))

    def train_step(net: nn.Module, batch: Any, optimizer: torch.optim.Optimizer) -> float:
        images, target = batch
        with torch.autocast(device_type="cpu", dtype=torch.bfloat16):
            logits = net(images)
            loss = F.cross_entropy(logits, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    train, val = loaders(*digits(), 1400)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    return Pipeline(model, train, val, nn.CrossEntropyLoss(), optimizer, train_step=train_step)


def ema_teacher() -> Pipeline:
    """A mean teacher: few labels, consistency with a moving average that lives in the model, unoptimised."""

    class MeanTeacher(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.student = small_net()
            self.teacher = copy.deepcopy(self.student).requires_grad_(False)

        def forward(self, x: Tensor) -> Any:
            return self.student(x) if self.training else self.teacher(x)

        @torch.no_grad()
        def follow(self, decay: float = 0.95) -> None:
            for mean, new in zip(self.teacher.state_dict().values(), self.student.state_dict().values(), strict=True):
                if mean.is_floating_point():
                    mean.mul_(decay).add_(new, alpha=1 - decay)
                else:
                    mean.copy_(new)

    model = MeanTeacher()

    def train_step(net: Any, batch: Any, optimizer: torch.optim.Optimizer) -> Tensor:
        x, y = batch
        noisy = x + 0.05 * torch.randn_like(x)
        logits = net.student(noisy)
        with torch.no_grad():
            wanted = net.teacher(x).softmax(1)
        loss = F.cross_entropy(logits, y) + 0.5 * F.mse_loss(logits.softmax(1), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        net.follow()
        return loss.detach()

    optimizer = torch.optim.Adam(model.student.parameters(), lr=4e-3)
    train, val = loaders(*shapes(), 900)
    return Pipeline(model, train, val, nn.CrossEntropyLoss(), optimizer, train_step=train_step)


def layerwise_rates() -> Pipeline:
    """Three groups: the stem at a hundredth of the head's rate, as in fine-tuning; the data are already shuffled."""
    model = small_net(1, 10)
    optimizer = torch.optim.Adam(
        [
            {"params": model[:3].parameters(), "lr": 1e-4},
            {"params": model[3:6].parameters(), "lr": 1e-3},
            {"params": model[6:].parameters(), "lr": 1e-2},
        ]
    )
    x, y = digits()
    train = DataLoader(TensorDataset(x[:1400], y[:1400]), batch_size=28)
    return Pipeline(model, train, DataLoader(TensorDataset(x[1400:], y[1400:]), 100), F.cross_entropy, optimizer)


def two_losses_balanced_by_uncertainty() -> Pipeline:
    """The weights of two tasks are parameters of their own beside the model, in the same optimizer."""

    class TwoTasks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk = nn.Sequential(nn.Linear(13, 32), nn.ReLU())
            self.kind, self.amount = nn.Linear(32, 3), nn.Linear(32, 1)
            self.log_var = nn.Parameter(torch.zeros(2))

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            h = self.trunk(x)
            return {"kind": self.kind(h), "amount": self.amount(h).squeeze(-1)}

    x, y = table("wine")
    amount = x[:, 0] - 0.5 * x[:, 6] + 0.1 * torch.randn(len(x), generator=torch.Generator().manual_seed(8))

    def compute_loss(model: Any, batch: Any) -> Tensor:
        features, kind, value = batch
        out = model(features)
        parts = torch.stack([F.cross_entropy(out["kind"], kind), F.mse_loss(out["amount"], value)])
        total: Tensor = (parts * torch.exp(-model.log_var) + 0.5 * model.log_var).sum()
        return total

    model = TwoTasks()
    data = TensorDataset(x, y, amount)
    train, val = torch.utils.data.random_split(data, [130, 48], torch.Generator().manual_seed(2))
    return Pipeline(
        model, DataLoader(train, 10, shuffle=True), DataLoader(val, 48), compute_loss=compute_loss,
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3), task="custom",
    )  # fmt: skip


CASES = cases_of(
    linear_warmup, one_cycle_adam, cosine_with_restarts, reduced_on_plateau, nesterov_at_a_tenth, chained_schedules,
    accumulated_in_own_step, bf16_precision, autocast_in_own_step, ema_teacher, layerwise_rates,
    two_losses_balanced_by_uncertainty,
)  # fmt: skip
