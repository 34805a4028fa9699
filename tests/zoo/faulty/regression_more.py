"""Faults in the model, the loss and the optimisation of ``regression``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.cases import Case, faulty
from zoo.programs.regression import build


def linear_layers() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 48), nn.Linear(48, 48), nn.Linear(48, 1))


def two_outputs() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 2))


def low_biases() -> nn.Module:
    """Biases of -10 switch the units off."""
    net = nn.Sequential(nn.Linear(8, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 1))
    for layer in (net[0], net[2]):
        nn.init.constant_(layer.bias, -10.0)  # type: ignore[arg-type]
    return net


def equal_weights() -> nn.Module:
    net = nn.Sequential(nn.Linear(8, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 1))
    for parameter in net.parameters():
        nn.init.constant_(parameter, 0.02)
    return net


def wide_init() -> nn.Module:
    """Five layers with weights of std 1."""
    layers: list[nn.Module] = [nn.Linear(8, 48), nn.ReLU()]
    for _ in range(3):
        layers += [nn.Linear(48, 48), nn.ReLU()]
    net = nn.Sequential(*layers, nn.Linear(48, 1))
    for parameter in net.parameters():
        nn.init.normal_(parameter)
    return net


def narrow_init() -> nn.Module:
    layers: list[nn.Module] = [nn.Linear(8, 48), nn.ReLU()]
    for _ in range(3):
        layers += [nn.Linear(48, 48), nn.ReLU()]
    net = nn.Sequential(*layers, nn.Linear(48, 1))
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.01)
    return net


def one_hidden_unit() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 1), nn.ReLU(), nn.Linear(1, 1))


class Sine(nn.Module):
    """A sine of a high frequency: bounded values, steep slopes."""

    def __init__(self, omega: float = 30.0) -> None:
        super().__init__()
        self.omega = omega

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(self.omega * x)


def sines() -> nn.Module:
    """Six layers of sines with the usual initialisation."""
    layers: list[nn.Module] = [nn.Linear(8, 48), Sine()]
    for _ in range(5):
        layers += [nn.Linear(48, 48), Sine()]
    return nn.Sequential(*layers, nn.Linear(48, 1))


class Experts(nn.Module):
    """Experts in a tuple of which torch knows nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = tuple(nn.Sequential(nn.Linear(8, 24), nn.ReLU()) for _ in range(2))
        self.out = nn.Linear(48, 1)

    def forward(self, x: Tensor) -> Any:
        return self.out(torch.cat([expert(x) for expert in self.experts], dim=1))


class Stacked(nn.Module):
    """Passes on the data of the hidden layers, without their history."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 48), nn.Linear(48, 48)
        self.out = nn.Linear(48, 1)

    def forward(self, x: Tensor) -> Any:
        hidden = torch.relu(self.second(torch.relu(self.first(x))))
        return self.out(hidden.data)


class Distance(nn.Module):
    """The gap to the smallest unit as a root of a square, which is zero for one unit."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 48), nn.ReLU(), nn.Linear(48, 48))
        self.out = nn.Linear(48, 1)

    def forward(self, x: Tensor) -> Any:
        x = self.body(x)
        gap = x - x.amin(dim=1, keepdim=True)
        return self.out(gap.pow(2).sqrt())


class Quantised(nn.Module):
    """Rounds the hidden units to quarters."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU())
        self.out = nn.Linear(48, 1)

    def forward(self, x: Tensor) -> Any:
        return self.out(torch.round(self.body(x) * 4) / 4)


def explained(output: Tensor, target: Tensor) -> Tensor:
    """The share of variance explained, which should grow."""
    return 1 - (output - target).pow(2).mean() / target.var()


def squared_log(output: Tensor, target: Tensor) -> Tensor:
    """The logarithm of values that may be below -1."""
    return (torch.log1p(output) - torch.log1p(target)).pow(2).mean()


def via_numpy(output: Tensor, target: Tensor) -> Tensor:
    error = output.detach().numpy() - target.numpy()
    return torch.tensor((error**2).mean(), requires_grad=True)


def lasso(model: nn.Module, batch: Any) -> Tensor:
    x, y = batch
    norm = torch.stack([p.abs().sum() for p in model.parameters()]).sum()
    return F.mse_loss(model(x), y) + 0.05 * norm


def sgd(**options: Any) -> Any:
    return lambda net: torch.optim.SGD(net.parameters(), **{"lr": 0.02, "momentum": 0.9, **options})


def last_layer(net: Any) -> Any:
    return torch.optim.SGD(net[-1].parameters(), lr=0.02, momentum=0.9)


def restarts(optimizer: Any) -> Any:
    """A cosine of the number of epochs, stepped per batch."""
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=12)


def milestones(optimizer: Any) -> Any:
    """Milestones of epochs, counted in batches."""
    return torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[3, 6, 9], gamma=0.1)


def piled_up(model: nn.Module, batch: Any, optimizer: Any) -> float:
    x, y = batch
    loss = F.mse_loss(model(x), y)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.item()


def thirty_parts(model: nn.Module, batch: Any, optimizer: Any) -> float:
    """One backward per row, nothing divided by their number."""
    optimizer.zero_grad()
    losses = []
    for x, y in zip(batch[0].split(1), batch[1].split(1), strict=True):
        loss = F.mse_loss(model(x), y)
        loss.backward()  # type: ignore[no-untyped-call]
        losses.append(loss.item())
    optimizer.step()
    return sum(losses) / len(losses)


def forgets_to_step(model: nn.Module, batch: Any, optimizer: Any) -> float:
    """A condition on the size of the batch that never holds."""
    x, y = batch
    optimizer.zero_grad()
    loss = F.mse_loss(model(x), y)
    loss.backward()  # type: ignore[no-untyped-call]
    if len(x) % 64 == 0:
        optimizer.step()
    return loss.item()


def clips_afterwards(model: nn.Module, batch: Any, optimizer: Any) -> float:
    x, y = batch
    optimizer.zero_grad()
    loss = F.mse_loss(model(x), y)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    nn.utils.clip_grad_value_(model.parameters(), 0.1)
    return loss.item()


CASES: tuple[Case, ...] = (
    faulty(build, "missing-nonlinearity", model=linear_layers),
    faulty(build, "output-shape-mismatch", structural=True, model=two_outputs, also=("target-broadcast",)),
    faulty(build, "dead-relu", model=low_biases),
    faulty(build, "symmetric-initialisation", model=equal_weights),
    faulty(build, "exploding-initialisation", model=wide_init),
    faulty(build, "vanishing-initialisation", model=narrow_init, also=("vanishing-gradient",)),
    faulty(build, "capacity-too-small", model=one_hidden_unit),
    faulty(build, "exploding-gradient", model=sines),
    faulty(build, "unregistered-modules", model=Experts, also=("parameters-missing-from-optimizer",)),
    faulty(build, "graph-cut", variant="data", model=Stacked),
    faulty(build, "nonfinite-gradient", model=Distance),
    faulty(build, "zero-gradient", model=Quantised),
    faulty(build, "loss-not-scalar", loss=nn.MSELoss(reduction="none")),
    faulty(build, "loss-sign-flipped", loss=explained),
    faulty(build, "nonfinite-loss", loss=squared_log),
    faulty(build, "loss-detached", variant="numpy", loss=via_numpy),
    faulty(build, "loss-summed", loss=nn.MSELoss(reduction="sum")),
    faulty(build, "regulariser-dominates", compute_loss=lasso),
    faulty(build, "learning-rate-too-high", optimizer=sgd(lr=3.0)),
    faulty(build, "learning-rate-too-low", optimizer=sgd(lr=1e-5)),
    faulty(build, "weight-decay-too-strong", optimizer=sgd(weight_decay=0.5)),
    faulty(build, "gradient-clip-too-small", clip_grad_norm=1e-3),
    faulty(build, "parameters-missing-from-optimizer", optimizer=last_layer),
    faulty(build, "schedule-period-mismatch", structural=True, scheduler=restarts),
    faulty(build, "schedule-collapses", scheduler=milestones),
    faulty(build, "gradients-not-cleared", train_step=piled_up),
    faulty(build, "accumulation-not-averaged", train_step=thirty_parts),
    faulty(build, "parameters-not-updated", train_step=forgets_to_step),
    faulty(build, "clip-after-step", structural=True, train_step=clips_afterwards),
)
