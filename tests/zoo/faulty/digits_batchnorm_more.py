"""Faults in the model, the loss and the optimisation of ``digits_batchnorm``."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.cases import Case, faulty
from zoo.programs.digits_batchnorm import ConvNet, block, build, sgd

Config = dict[str, Any]


class SoftmaxNet(ConvNet):
    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.head = nn.Sequential(nn.Linear(32, 10), nn.Softmax(dim=-1))  # type: ignore[assignment]


class TanhNet(ConvNet):
    def forward(self, x: Tensor) -> Any:
        return torch.tanh(super().forward(x))


class ListNet(nn.Module):
    """Blocks in a Python list."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        widths = [3, 12, 24]
        self.blocks = [
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)) for a, b in pairwise(widths)
        ]
        self.norm = nn.BatchNorm1d(96)
        self.head = nn.Linear(96, 10)

    def forward(self, x: Tensor) -> Any:
        for one in self.blocks:
            x = one(x)
        return self.head(self.norm(x.flatten(1)))


class NewNeck(ConvNet):
    """Adapts the width by a convolution made on the spot."""

    def forward(self, x: Tensor) -> Any:
        x = self.features(x)
        adapt = nn.Conv2d(x.shape[1], 24, kernel_size=1)
        return self.head(self.dropout(self.neck(torch.relu(adapt(x)))))


class NoGradFeatures(ConvNet):
    """A no_grad from the time when the features were frozen."""

    def forward(self, x: Tensor) -> Any:
        with torch.no_grad():
            x = self.features(x)
            x = self.neck(x)
        return self.head(self.dropout(x))


class SlowStatistics(ConvNet):
    """Thinks of momentum as in other frameworks: the share that is kept is 0.999."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.momentum = 0.001


class SparseDrop(ConvNet):
    """Drops whole maps as well, nearly all of them."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.features = nn.Sequential(block(3, 12), nn.Dropout2d(0.9), block(12, 24), nn.Dropout2d(0.9))


class DeepNet(nn.Module):
    """Twelve convolutions with sigmoids and no shortcut."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 12, 3, padding=1), nn.MaxPool2d(2), nn.Sigmoid()]
        for _ in range(10):
            layers += [nn.Conv2d(12, 12, 3, padding=1), nn.Sigmoid()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(12 * 16, 10)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.body(x).flatten(1))


class ManyNorms(nn.Module):
    """Forty linear layers with BatchNorm and no shortcut: the gradient grows towards the input."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten(), nn.Linear(192, 32)]
        for _ in range(40):
            layers += [nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 32)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.body(x))


def with_entropy(output: Tensor, target: Tensor) -> Tensor:
    """A bonus for uncertain answers that outweighs the data."""
    logp = F.log_softmax(output, dim=1)
    entropy = -(logp.exp() * logp).sum(1).mean()
    return F.cross_entropy(output, target) - 8.0 * entropy


def centred(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """A penalty on the logits that outweighs the data."""
    x, y = batch
    output = model(x)
    return F.cross_entropy(output, y) + 5.0 * output.pow(2).mean()  # type: ignore[no-any-return]


def features_only(net: Any, config: Config) -> Any:
    """The list of groups forgets neck and head."""
    groups = [{"params": net.features.parameters(), "lr": config["lr"]}]
    return torch.optim.SGD(groups, lr=config["lr"], momentum=0.9)


def steps_of_epochs(optimizer: Any, config: Config) -> Any:
    """A schedule meant for epochs, stepped per batch."""
    return torch.optim.lr_scheduler.StepLR(optimizer, step_size=4, gamma=0.3)


def late_peak(optimizer: Any, config: Config) -> Any:
    """One cycle over ten times the steps there are."""
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.5, total_steps=20 * config["epochs"] * 10)


def slow_warmup(optimizer: Any, config: Config) -> Any:
    """A warm-up of 90 epochs in a run of 15."""
    return torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1e-4, total_iters=9000)


def whole_epochs(optimizer: Any, config: Config) -> Any:
    """Integer division keeps the factor at zero."""
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: epoch // config["epochs"])


def two_at_once(net: Any, config: Config) -> Any:
    return sgd(net, {**config, "lr": 1e-5})


CASES: tuple[Case, ...] = (
    faulty(build, "softmax-before-cross-entropy", model=SoftmaxNet),
    faulty(build, "activation-on-logits", variant="tanh", model=TanhNet),
    faulty(build, "unregistered-modules", model=ListNet, also=("parameters-missing-from-optimizer",)),
    faulty(build, "layer-created-in-forward", model=NewNeck),
    faulty(build, "graph-cut", model=NoGradFeatures),
    faulty(build, "batchnorm-statistics-lag", model=SlowStatistics),
    faulty(build, "batchnorm-on-single-sample", config={"drop_last": False}),
    faulty(build, "dropout-too-strong", config={"dropout": 0.97}),
    faulty(build, "dropout-too-strong", variant="maps", model=SparseDrop),
    faulty(build, "vanishing-gradient", model=DeepNet),
    faulty(build, "exploding-gradient", model=ManyNorms),
    faulty(build, "loss-summed", criterion=nn.CrossEntropyLoss(reduction="sum")),
    faulty(build, "label-smoothing-too-strong", config={"label_smoothing": 0.95}),
    faulty(build, "regulariser-dominates", variant="entropy", criterion=with_entropy),
    faulty(build, "regulariser-dominates", variant="logits", compute_loss=centred),
    faulty(build, "parameters-missing-from-optimizer", optimizer=features_only),
    faulty(build, "learning-rate-too-high", config={"lr": 30.0}),
    faulty(build, "learning-rate-too-low", config={"lr": 1e-5}),
    faulty(build, "zero-learning-rate", scheduler=whole_epochs),
    faulty(build, "weight-decay-too-strong", config={"weight_decay": 1.0}),
    faulty(build, "gradient-clip-too-small", clip_grad_norm=1e-3),
    faulty(build, "schedule-collapses", scheduler=steps_of_epochs, scheduler_interval="step"),
    faulty(
        build,
        "schedule-period-mismatch",
        also=("warmup-outlasts-training",),
        scheduler=late_peak,
        scheduler_interval="step",
    ),
    faulty(build, "warmup-outlasts-training", scheduler=slow_warmup, scheduler_interval="step"),
    faulty(build, "batch-size-extreme", variant="full", config={"batch_size": 961}),
    faulty(
        build,
        "softmax-before-cross-entropy",
        variant="two",
        also=("learning-rate-too-low",),
        model=SoftmaxNet,
        optimizer=two_at_once,
    ),
)
