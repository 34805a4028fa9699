"""Faults of ``finetune``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.cases import Case, faulty
from zoo.programs.finetune import (
    MEAN,
    STD,
    Classifier,
    Pair,
    build,
    checkpoint,
    head_only,
    normalise,
    prepare,
    pretrained,
    unfrozen,
)


def parallel_names() -> Classifier:
    """The names of the checkpoint carry a prefix, and strict=False says nothing of it."""
    net = Classifier()
    state = {f"module.{name}": value for name, value in checkpoint().items()}
    net.load_state_dict(state, strict=False)
    net.requires_grad_(False)
    net.fc = nn.Linear(20, 10)
    return net


def reinitialised() -> Classifier:
    """The initialisation runs after the loading."""
    net = Classifier()
    net.load_state_dict(checkpoint())
    net.requires_grad_(False)
    net.fc = nn.Linear(20, 10)
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    return net


def frozen_after() -> Classifier:
    """Freezes once the new head is in place, and so the head as well."""
    net = unfrozen()
    for parameter in net.parameters():
        parameter.requires_grad = False
    return net


def all_parameters(net: Any) -> Any:
    return torch.optim.Adam(net.parameters(), lr=5e-3)


def with_softmax() -> nn.Module:
    net = pretrained()
    net.fc = nn.Sequential(nn.Linear(20, 10), nn.Softmax(dim=1))  # type: ignore[assignment]
    return net


def with_sigmoid() -> nn.Module:
    net = pretrained()
    net.fc = nn.Sequential(nn.Linear(20, 10), nn.Sigmoid())  # type: ignore[assignment]
    return net


def wide_head() -> nn.Module:
    """The size of the features is that of another backbone."""
    net = pretrained()
    net.fc = nn.Linear(32, 10)
    return net


def thousand_classes() -> nn.Module:
    """The head of a larger task."""
    net = pretrained()
    net.fc = nn.Linear(20, 1000)
    return net


def equal_head() -> nn.Module:
    """Head weights set to one value each."""
    net = pretrained()
    net.fc = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 10))  # type: ignore[assignment]
    for parameter in net.fc.parameters():
        nn.init.constant_(parameter, 0.05)
    return net


def huge_head() -> nn.Module:
    """The new head starts with weights a thousand times too large."""
    net = unfrozen()
    nn.init.normal_(net.fc.weight, std=30.0)
    return net


class Inference(nn.Module):
    """Wraps the backbone in a function meant for inference."""

    def __init__(self) -> None:
        super().__init__()
        source = unfrozen()
        self.backbone, self.fc = source.backbone, source.fc

    @torch.no_grad()
    def predict(self, x: Tensor) -> Any:
        return self.fc(self.backbone(x))

    def forward(self, x: Tensor) -> Any:
        return self.predict(x)


class FeatureSoftmax(nn.Module):
    """A softmax over the features that runs over the batch instead."""

    def __init__(self) -> None:
        super().__init__()
        source = pretrained()
        self.backbone, self.fc = source.backbone, source.fc

    def forward(self, x: Tensor) -> Any:
        features = self.backbone(x)
        features = torch.softmax(features, dim=0)
        return self.fc(features)


def raw(x: Tensor, y: Tensor) -> tuple[Pair, Pair]:
    return (x[1000:1500], y[1000:1500]), (x[1500:], y[1500:])


def photo_statistics(x: Tensor, y: Tensor) -> tuple[Pair, Pair]:
    """The means and deviations of photographs from 0 to 255, on digits from 0 to 16."""
    x = (x - 116.3) / 57.1
    return (x[1000:1500], y[1000:1500]), (x[1500:], y[1500:])


def twice(x: Tensor, y: Tensor) -> tuple[Pair, Pair]:
    return prepare(normalise(x), y)


def training_twice(x: Tensor, y: Tensor) -> tuple[Pair, Pair]:
    """Only the training part goes through the old preprocessing as well."""
    train, val = prepare(x, y)
    return ((train[0] / 16 - MEAN) / STD, train[1]), val


def other_order(x: Tensor, y: Tensor) -> tuple[Pair, Pair]:
    """The classes of validation come from a listing in the order of text, downwards."""
    train, (val_x, val_y) = prepare(x, y)
    return train, (val_x, torch.tensor([9, 8, 7, 6, 5, 4, 3, 2, 1, 0])[val_y])


def from_one(x: Tensor, y: Tensor) -> tuple[Pair, Pair]:
    return prepare(x, y + 1)


def short_integers(x: Tensor, y: Tensor) -> tuple[Pair, Pair]:
    """Labels as integers of 32 bits."""
    return prepare(x, y.int())


def twenty_digits(x: Tensor, y: Tensor) -> tuple[Pair, Pair]:
    (train_x, train_y), val = prepare(x, y)
    return (train_x[:20], train_y[:20]), val


def misaligned(x: Tensor, y: Tensor) -> tuple[Pair, Pair]:
    """The header of the label file was read as a label."""
    return prepare(x, torch.cat([y[:1], y[:-1]]))


def overlapping(x: Tensor, y: Tensor) -> tuple[Pair, Pair]:
    """The ranges of the splits overlap."""
    x = normalise(x)
    return (x[1000:1500], y[1000:1500]), (x[1203:1500], y[1203:1500])


def optimizer_before_head() -> tuple[nn.Module, Any]:
    """The optimizer is made before the head is replaced."""
    net = Classifier()
    net.load_state_dict(checkpoint())
    net.backbone.requires_grad_(False)
    optimizer = head_only(net)
    net.fc = nn.Linear(20, 10)
    return net, optimizer


def backbone_alone() -> tuple[nn.Module, Any]:
    """The new head is given to no group."""
    net = unfrozen()
    groups = [
        {"params": net.backbone.stem.parameters(), "lr": 1e-4},
        {"params": net.backbone.stage.parameters(), "lr": 3e-4},
    ]
    return net, torch.optim.Adam(groups)


def tuned(**options: Any) -> Any:
    """Everything trainable, under one optimizer."""

    def parts() -> tuple[nn.Module, Any]:
        net = unfrozen()
        return net, torch.optim.Adam(net.parameters(), **options)

    return parts


def forgot_step(model: nn.Module, batch: Any, optimizer: Any) -> float:
    """Clears the gradients right after backward."""
    x, y = batch
    loss = F.cross_entropy(model(x), y)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.zero_grad(set_to_none=False)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return float(loss)


CASES: tuple[Case, ...] = (
    faulty(build, "pretrained-weights-not-loaded", variant="prefix", model=parallel_names),
    faulty(build, "pretrained-weights-not-loaded", variant="initialised-after", model=reinitialised),
    faulty(build, "everything-frozen", model=frozen_after, optimizer=all_parameters),
    faulty(build, "softmax-before-cross-entropy", structural=True, model=with_softmax),
    faulty(build, "activation-on-logits", variant="sigmoid", model=with_sigmoid),
    faulty(build, "forward-shape-mismatch", model=wide_head),
    faulty(build, "num-classes-mismatch", structural=True, also=("output-shape-mismatch",), model=thousand_classes),
    faulty(build, "symmetric-initialisation", model=equal_head),
    faulty(build, "exploding-initialisation", model=huge_head),
    faulty(build, "graph-cut", model=Inference),
    faulty(build, "batch-mixing", variant="softmax-of-features", model=FeatureSoftmax, also=("softmax-over-batch",)),
    faulty(build, "inputs-not-normalised", data=raw),
    faulty(build, "wrong-normalisation-statistics", data=photo_statistics),
    faulty(build, "inputs-normalised-twice", data=twice),
    faulty(build, "train-val-preprocessing-mismatch", data=training_twice),
    faulty(build, "label-map-differs-in-validation", data=other_order),
    faulty(
        build,
        "pretrained-weights-not-loaded",
        variant="two",
        also=("label-map-differs-in-validation",),
        model=parallel_names,
        data=other_order,
    ),
    faulty(build, "labels-out-of-range", data=from_one),
    faulty(build, "label-dtype-mismatch", data=short_integers),
    faulty(build, "too-few-samples", data=twenty_digits, epochs=300),
    faulty(build, "labels-unrelated-to-inputs", variant="misaligned", data=misaligned),
    faulty(build, "train-val-leakage", structural=True, data=overlapping),
    faulty(build, "stale-optimizer-parameters", parts=optimizer_before_head),
    faulty(build, "parameters-missing-from-optimizer", parts=backbone_alone),
    faulty(build, "learning-rate-too-high", parts=tuned(lr=0.5)),
    faulty(build, "learning-rate-too-low", parts=tuned(lr=1e-6)),
    faulty(build, "gradients-cleared-before-step", train_step=forgot_step),
)
