"""Faults in the network for signs and in how it is trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.cases import Case, faulty
from zoo.programs.glyphs import KINDS, Residual, ResNet, build, sgd

Step = Callable[[nn.Module, list[Tensor], torch.optim.Optimizer], Tensor]


class SquarePictures(ResNet):
    """Sizes its last layer for square pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.Identity()  # type: ignore[assignment]
        self.fc = nn.Linear(16 * 6 * 6, KINDS)


class ConvolutionsOnly(nn.Module):
    """Convolutions one after the other, with nothing between."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8),
            nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16),
            nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16),
            nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16 * 6, KINDS),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits


class Unnormed(ResNet):
    """Plain deep convolutions that start far too large."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
        self.body = nn.Sequential(
            nn.Conv2d(8, 8, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, 1, 1),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, 2, 1),
            nn.ReLU(),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=1.0)


class Faint(ResNet):
    """Plain deep convolutions that start far too small."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU()]
        for _ in range(2):
            layers += [nn.Conv2d(16, 16, 3, 1, 1), nn.ReLU()]
        self.stem, self.body = nn.Sequential(*layers), nn.Sequential()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]


class DropChannels(ResNet):
    """Drops nearly all channels after each part."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout2d(self.stem(x), 0.8, self.training)
        x = F.dropout2d(self.body(x), 0.8, self.training)
        logits: Tensor = self.fc(self.pool(x).flatten(1))
        return logits


class NeverOff(ResNet):
    """Dropout before the last layer, in evaluation too."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.body(self.stem(x))).flatten(1)
        logits: Tensor = self.fc(F.dropout(x, 0.7))
        return logits


class ColumnSoftmax(ResNet):
    """Softmax without thought for the dimension."""

    def forward(self, x: Tensor) -> Tensor:
        return F.softmax(super().forward(x), dim=0)


class SigmoidLogits(ResNet):
    """A sigmoid for each class, and cross-entropy after it."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(super().forward(x))


class Spread(ResNet):
    """Makes the batch of features flat in the wrong order."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.body(self.stem(x)))
        logits: Tensor = self.fc(x.transpose(0, 1).reshape(len(x), -1))
        return logits


class SlowNorm(Residual):
    """Norms with the momentum that another library would take."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(inputs, outputs, stride)
        self.norm1 = nn.BatchNorm2d(outputs, momentum=0.001)
        self.norm2 = nn.BatchNorm2d(outputs, momentum=0.001)


class FrozenStem(ResNet):
    """Backbone under no_grad, head outside."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            features = self.pool(self.body(self.stem(x)))
        logits: Tensor = self.fc(features.flatten(1))
        return logits


class Hidden(ResNet):
    """Residual parts in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential()
        self.parts = [Residual(8, 8, 2), Residual(8, 16, 2)]

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for part in self.parts:
            x = part(x)
        logits: Tensor = self.fc(self.pool(x).flatten(1))
        return logits


def sgd_with(**options: Any) -> Any:
    """SGD as in the base, but for ``options``."""
    usual = {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4}
    return lambda model: torch.optim.SGD(model.parameters(), **(usual | options))


def before_new_head(model: ResNet) -> torch.optim.Optimizer:
    """Then puts in a head for the signs, and norms for small batches."""
    optimizer = sgd(model)
    model.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    model.body = nn.Sequential(Residual(8, 8, 2), Residual(8, 16, 2))
    model.fc = nn.Linear(144, KINDS)
    return optimizer


def without_decay(model: nn.Module) -> torch.optim.Optimizer:
    """Of the two groups, only the one without weight decay is handed on."""
    decay: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for parameter in model.parameters():
        (decay if parameter.ndim > 1 else plain).append(parameter)
    return torch.optim.SGD([{"params": plain, "weight_decay": 0.0}], lr=0.05, momentum=0.9)


def frozen(model: nn.Module) -> torch.optim.Optimizer:
    optimizer = sgd(model)
    model.requires_grad_(False)
    return optimizer


def accumulating(every: int = 6) -> Step:
    """Steps after ``every`` batches, whose losses are added up."""
    seen = 0

    def step(model: nn.Module, batch: list[Tensor], optimizer: torch.optim.Optimizer) -> Tensor:
        nonlocal seen
        loss = F.cross_entropy(model(batch[0]), batch[1])
        loss.backward()  # type: ignore[no-untyped-call]
        seen += 1
        if seen % every == 0:
            optimizer.step()
            optimizer.zero_grad()
        return loss.detach()

    return step


def scaled_clip() -> Step:
    """Clips the gradients while they are still scaled."""
    scaler = torch.amp.GradScaler("cpu")

    def step(model: nn.Module, batch: list[Tensor], optimizer: torch.optim.Optimizer) -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(batch[0]), batch[1])
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        return loss.detach()

    return step


def summed_up(model: nn.Module, batch: list[Tensor], optimizer: torch.optim.Optimizer) -> Tensor:
    """Loss, gradient, step."""
    loss = F.cross_entropy(model(batch[0]), batch[1])
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.detach()


def wiped(model: nn.Module, batch: list[Tensor], optimizer: torch.optim.Optimizer) -> Tensor:
    """Loss and gradient, a clean slate, step."""
    loss = F.cross_entropy(model(batch[0]), batch[1])
    loss.backward()  # type: ignore[no-untyped-call]
    model.zero_grad()
    optimizer.step()
    return loss.detach()


def shrinking(optimizer: torch.optim.Optimizer) -> Any:
    return torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[5, 8, 11], gamma=0.1)


def slow_start(optimizer: torch.optim.Optimizer) -> Any:
    """Warms up over 500 epochs of a plan for pre-training."""
    return torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1e-3, total_iters=500)


CASES: tuple[Case, ...] = (
    faulty(build, "forward-shape-mismatch", model=SquarePictures),
    faulty(build, "missing-nonlinearity", model=ConvolutionsOnly),
    faulty(build, "exploding-initialisation", model=Unnormed),
    faulty(build, "vanishing-initialisation", model=Faint),
    faulty(build, "dropout-too-strong", model=DropChannels),
    faulty(build, "nondeterministic-eval", model=NeverOff),
    faulty(build, "softmax-over-batch", model=ColumnSoftmax),
    faulty(build, "activation-on-logits", model=SigmoidLogits),
    faulty(build, "batch-mixing", model=Spread),
    faulty(build, "batchnorm-statistics-lag", model=lambda: ResNet(block=SlowNorm)),
    faulty(build, "graph-cut", model=FrozenStem),
    faulty(build, "unregistered-modules", model=Hidden),
    faulty(build, "learning-rate-too-high", optimizer=sgd_with(lr=20.0)),
    faulty(build, "learning-rate-too-low", optimizer=sgd_with(lr=1e-5)),
    faulty(build, "weight-decay-too-strong", optimizer=sgd_with(weight_decay=0.5)),
    faulty(build, "stale-optimizer-parameters", optimizer=before_new_head),
    faulty(build, "parameters-missing-from-optimizer", optimizer=without_decay),
    faulty(build, "everything-frozen", optimizer=frozen),
    faulty(build, "gradient-clip-too-small", clip_grad_norm=1e-3),
    faulty(build, "accumulation-not-averaged", structural=True, make_step=accumulating),
    faulty(build, "clip-before-unscale", make_step=scaled_clip),
    faulty(build, "gradients-not-cleared", train_step=summed_up),
    faulty(build, "gradients-cleared-before-step", also=("parameters-not-updated",), train_step=wiped),
    faulty(build, "schedule-collapses", scheduler=shrinking, scheduler_interval="step"),
    faulty(build, "warmup-outlasts-training", scheduler=slow_start),
)
