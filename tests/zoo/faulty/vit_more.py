"""Faults in how the vision transformer is optimised: groups, schedules and steps of one's own."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.cases import Case, faulty
from zoo.programs.vit import ViT, adamw, build, warmup_cosine

Optimizer = torch.optim.Optimizer
Step = Callable[[nn.Module, tuple[Tensor, Tensor], Optimizer], Tensor]


def adamw_of_average(model: nn.Module, cfg: dict[str, Any]) -> Optimizer:
    """Optimises the copy that is kept for the moving average."""
    average = deepcopy(model)
    return adamw(average, cfg)


def adamw_before_change(model: ViT, cfg: dict[str, Any]) -> Optimizer:
    """Then gives the model another head and other patches."""
    optimizer = adamw(model, cfg)
    model.head = nn.Linear(cfg["dim"], 10)
    model.patches = nn.Conv2d(1, cfg["dim"], cfg["patch"], stride=cfg["patch"])
    return optimizer


def by_depth(model: ViT, cfg: dict[str, Any]) -> Optimizer:
    """A smaller rate for earlier blocks; the ends of the model are in no group."""
    groups = [
        {"params": block.parameters(), "lr": cfg["lr"] * 0.8**i} for i, block in enumerate(reversed(model.blocks))
    ]
    return torch.optim.AdamW(groups, weight_decay=cfg["weight_decay"])


def frozen(model: nn.Module, cfg: dict[str, Any]) -> Optimizer:
    """Freezes for linear probing, the head with the rest."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return adamw(model, cfg)


def large_epsilon(model: nn.Module, cfg: dict[str, Any]) -> Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=cfg["lr"], eps=10.0)


def of_epochs(optimizer: Optimizer, cfg: dict[str, Any], steps: int) -> Any:
    """Counts epochs where steps are meant."""
    return warmup_cosine(optimizer, 1, cfg["epochs"])


def exponential(optimizer: Optimizer, cfg: dict[str, Any], steps: int) -> Any:
    return torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.85)


def restarts(optimizer: Optimizer, cfg: dict[str, Any], steps: int) -> Any:
    return torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=cfg["epochs"])


def far_end(optimizer: Optimizer, cfg: dict[str, Any], steps: int) -> Any:
    """Plans for a hundred times as many steps."""
    return warmup_cosine(optimizer, cfg["warmup"], 100 * cfg["epochs"] * steps)


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


def cleared(model: nn.Module, batch: tuple[Tensor, Tensor], optimizer: Optimizer) -> Tensor:
    """Clears the gradients between backward and step."""
    loss = loss_of(model, batch)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.zero_grad()
    optimizer.step()
    return loss.detach()


def clipped_late(model: nn.Module, batch: tuple[Tensor, Tensor], optimizer: Optimizer) -> Tensor:
    """Clips what has been used already."""
    optimizer.zero_grad()
    loss = loss_of(model, batch)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    return loss.detach()


def no_step(model: nn.Module, batch: tuple[Tensor, Tensor], optimizer: Optimizer) -> Tensor:
    """Leaves the step to the schedule."""
    model.train()
    optimizer.zero_grad(set_to_none=True)
    loss = loss_of(model, batch)
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach()


def detached(output: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy in NumPy."""
    rows = output.detach().numpy()
    shifted = rows - rows.max(1, keepdims=True)
    log = shifted - torch.from_numpy(shifted).exp().sum(1, keepdim=True).log().numpy()
    return torch.tensor(-log[range(len(log)), target.numpy()].mean(), requires_grad=True)


def squared(output: Tensor, target: Tensor) -> Tensor:
    """The largest output for the prediction, compared with the class as a number."""
    predicted, _ = output.max(dim=1)
    return F.mse_loss(predicted, target.float())


def log_of_softmax(output: Tensor, target: Tensor) -> Tensor:
    return F.nll_loss(torch.log(torch.softmax(output, dim=1)), target)


def over_batch(output: Tensor, target: Tensor) -> Tensor:
    return F.nll_loss(F.log_softmax(output, dim=0), target)


def probability(output: Tensor, target: Tensor) -> Tensor:
    return nn.NLLLoss()(nn.Softmax(dim=1)(output), target)  # type: ignore[no-any-return]


CASES: tuple[Case, ...] = (
    faulty(build, "stale-optimizer-parameters", variant="copy", optimizer=adamw_of_average),
    faulty(build, "stale-optimizer-parameters", variant="head", structural=True, optimizer=adamw_before_change),
    faulty(build, "parameters-missing-from-optimizer", optimizer=by_depth),
    faulty(build, "everything-frozen", optimizer=frozen),
    faulty(build, "adam-epsilon-out-of-range", optimizer=large_epsilon),
    faulty(build, "schedule-collapses", variant="cosine", scheduler=of_epochs),
    faulty(build, "schedule-collapses", variant="exponential", scheduler=exponential),
    faulty(build, "schedule-period-mismatch", variant="short", structural=True, scheduler=restarts),
    faulty(build, "schedule-period-mismatch", variant="long", structural=True, scheduler=far_end),
    faulty(build, "gradients-cleared-before-step", also=("parameters-not-updated",), train_step=cleared),
    faulty(build, "clip-after-step", structural=True, train_step=clipped_late),
    faulty(build, "parameters-not-updated", train_step=no_step),
    faulty(build, "loss-detached", loss=detached),
    faulty(build, "mse-for-classification", loss=squared),
    faulty(build, "unstable-log", structural=True, loss=log_of_softmax),
    faulty(build, "softmax-over-batch", structural=True, loss=over_batch),
    faulty(build, "nll-on-probabilities", loss=probability),
)
