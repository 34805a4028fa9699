"""Healthy: every family of classifiers of torchvision, and some of timm, for the checks that need no training.

The models are the smallest of their families, randomly initialised, on 64 small pictures: nobody has shown that they
learn from so few.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchvision import models

from diagnose.pipeline import Pipeline
from zoo.cases import Case

Optimizer = Callable[[nn.Module], torch.optim.Optimizer]


@cache
def gratings(size: int, n: int = 80) -> tuple[Tensor, Tensor]:
    """Coloured stripes of five directions and two widths, standardised: ten classes."""
    g = torch.Generator().manual_seed(71)
    y = torch.arange(n)[torch.randperm(n, generator=g)] % 10
    angle = (y % 5) * torch.pi / 5
    period = torch.where(y < 5, 6.0, 12.0)
    rows, columns = torch.arange(size).view(1, size, 1), torch.arange(size).view(1, 1, size)
    along = rows * angle.sin().view(-1, 1, 1) + columns * angle.cos().view(-1, 1, 1)
    phase = 6.2832 * torch.rand(n, 1, 1, generator=g)
    wave = (6.2832 * along / period.view(-1, 1, 1) + phase).sin().unsqueeze(1)
    tint = 0.5 + torch.rand(n, 3, 1, 1, generator=g)
    x = wave * tint + 0.3 * torch.randn(n, 3, size, size, generator=g)
    return (x - x.mean()) / x.std(), y


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=1e-3)


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=5e-4, weight_decay=0.05)


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)


def pipeline(model: nn.Module, size: int, optimizer: Optimizer, **fields: Any) -> Pipeline:
    """``model`` on 64 gratings for training and 16 for validation."""
    x, y = gratings(size)
    train = DataLoader(TensorDataset(x[:64], y[:64]), batch_size=8, shuffle=True)
    val = DataLoader(TensorDataset(x[64:], y[64:]), batch_size=8)
    if "compute_loss" not in fields:
        fields["loss"] = nn.CrossEntropyLoss()
    return Pipeline(model, train, val, optimizer=optimizer(model), num_classes=10, **fields)


def with_auxiliary(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
    """The usual loss of GoogLeNet and Inception: auxiliary heads count 0.3 each, in training alone."""
    images, labels = batch
    output = model(images)
    if isinstance(output, Tensor):
        return F.cross_entropy(output, labels), output
    extra = [F.cross_entropy(aux, labels) for aux in output[1:] if aux is not None]
    return F.cross_entropy(output[0], labels) + 0.3 * sum(extra, torch.zeros(())), output[0]


def torchvision_model(name: str, size: int, optimizer: Optimizer, **arguments: Any) -> Pipeline:
    return pipeline(models.get_model(name, weights=None, num_classes=10, **arguments), size, optimizer)


def googlenet() -> Pipeline:
    model = models.googlenet(weights=None, num_classes=10, aux_logits=True, init_weights=True)
    return pipeline(model, 64, adam, compute_loss=with_auxiliary)


def inception() -> Pipeline:
    """Pictures of 75 are too small for the auxiliary head as it comes: a plain one takes its place."""
    model = models.inception_v3(weights=None, num_classes=10, aux_logits=True, init_weights=False)
    model.AuxLogits = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(768, 10))
    return pipeline(model, 75, adam, compute_loss=with_auxiliary)


def maxvit() -> Pipeline:
    """The tiny member, with windows of 2 in place of 7, which want pictures of 224."""
    model = models.MaxVit(
        input_size=(64, 64), stem_channels=64, block_channels=[64, 128, 256, 512], block_layers=[2, 2, 5, 2],
        head_dim=32, stochastic_depth_prob=0.2, partition_size=2, num_classes=10,
    )  # fmt: skip
    return pipeline(model, 64, adamw)


def timm_model(name: str, size: int, optimizer: Optimizer, **arguments: Any) -> Pipeline:
    import timm

    return pipeline(timm.create_model(name, pretrained=False, num_classes=10, **arguments), size, optimizer)


def _torchvision(name: str, size: int, optimizer: Optimizer, **arguments: Any) -> Case:
    return Case("torchvision", "", partial(torchvision_model, name, size, optimizer, **arguments), variant=name)


def _timm(name: str, size: int, optimizer: Optimizer, **arguments: Any) -> Case:
    return Case("timm", "", partial(timm_model, name, size, optimizer, **arguments), variant=name)


TORCHVISION: tuple[Case, ...] = (
    _torchvision("alexnet", 64, sgd),
    _torchvision("vgg11", 32, sgd),
    _torchvision("resnet18", 32, sgd),
    _torchvision("resnext50_32x4d", 32, sgd),
    _torchvision("wide_resnet50_2", 32, sgd),
    _torchvision("densenet121", 32, adam),
    Case("torchvision", "", inception, variant="inception_v3"),
    Case("torchvision", "", googlenet, variant="googlenet"),
    _torchvision("squeezenet1_1", 32, adam),
    _torchvision("mobilenet_v2", 32, adam),
    _torchvision("mobilenet_v3_small", 32, adam),
    _torchvision("mnasnet0_5", 32, adam),
    _torchvision("shufflenet_v2_x0_5", 32, adam),
    _torchvision("efficientnet_b0", 32, adam),
    _torchvision("efficientnet_v2_s", 32, adam),
    _torchvision("regnet_y_400mf", 32, sgd),
    _torchvision("convnext_tiny", 32, adamw),
    _torchvision("vit_b_16", 32, adamw, image_size=32),
    _torchvision("swin_t", 32, adamw),
    _torchvision("swin_v2_t", 32, adamw),
    Case("torchvision", "", maxvit, variant="maxvit_t"),
)

TIMM: tuple[Case, ...] = (
    _timm("convnextv2_atto", 32, adamw),
    _timm("deit_tiny_patch16_224", 64, adamw, img_size=64),
    _timm("mobilevit_xxs", 64, adamw),
    _timm("edgenext_xx_small", 64, adamw),
    _timm("ghostnet_050", 32, adam),
    _timm("repvgg_a0", 32, sgd),
    _timm("nf_regnet_b0", 32, sgd),
    _timm("mixer_s32_224", 64, adamw, img_size=64),
)
CASES = TORCHVISION + TIMM
