"""Healthy: initialisations, norms and blocks that look broken at the first step and are not."""

from __future__ import annotations

import math
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from torchvision.ops import StochasticDepth, sigmoid_focal_loss

from diagnose.pipeline import Pipeline
from zoo.healthy.common import cases_of, digits, loaders, shapes, table
from zoo.healthy.training import fit_once


class Residual(nn.Module):
    """Conv, norm, act, conv, norm; the last norm starts at zero; the branch is dropped now and then if asked."""

    def __init__(self, width: int, drop: float = 0.0, zero: bool = True) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.drop = StochasticDepth(drop, mode="row")
        if zero:
            nn.init.zeros_(self.bn2.weight)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(x + self.drop(out))


def resnet(block: Any, depth: int = 3, width: int = 12, channels: int = 1, classes: int = 10) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1), *(block(width) for _ in range(depth)),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * width, classes),
    )  # fmt: skip


def zero_last_gamma() -> Pipeline:
    model = resnet(Residual)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    return Pipeline(model, *loaders(*digits(), 1200), nn.CrossEntropyLoss(), optimizer, num_classes=10)


def stochastic_depth() -> Pipeline:
    model = resnet(partial(Residual, drop=0.3, zero=False))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    return Pipeline(model, *loaders(*digits(), 1200), nn.CrossEntropyLoss(), optimizer, num_classes=10)


class ReZeroBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.f = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        self.alpha = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Any:
        return x + self.alpha * self.f(x)


def rezero() -> Pipeline:
    """Twelve blocks, each scaled by a number that starts at zero."""
    x, y = table("breast_cancer")
    model = nn.Sequential(nn.Linear(30, 32), *(ReZeroBlock(32) for _ in range(12)), nn.Linear(32, 2))
    return Pipeline(model, *loaders(x, y, 420, 24), nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), 2e-3))


class FixupBlock(nn.Module):
    """No norm; scalar biases, a scalar scale, the second convolution starts at zero."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.b1, self.b2, self.b3, self.b4 = (nn.Parameter(torch.zeros(1)) for _ in range(4))
        self.scale = nn.Parameter(torch.ones(1))
        nn.init.normal_(self.conv1.weight, std=math.sqrt(2 / (9 * width)) * depth**-0.5)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(F.relu(self.conv1(x + self.b1) + self.b2) + self.b3)
        return F.relu(x + out * self.scale + self.b4)


def fixup() -> Pipeline:
    model = resnet(lambda width: FixupBlock(width, 4), depth=4)
    nn.init.zeros_(model[-1].weight)  # type: ignore[arg-type]
    nn.init.zeros_(model[-1].bias)  # type: ignore[arg-type]
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    return Pipeline(model, *loaders(*digits(), 1200), nn.CrossEntropyLoss(), optimizer)


class Denoiser(nn.Module):
    """A diffusion transformer in small: adaLN-zero blocks, and a last layer of zeros."""

    def __init__(self, width: int = 48, depth: int = 2) -> None:
        super().__init__()
        self.embed = nn.Linear(4, width)
        self.position = nn.Parameter(0.02 * torch.randn(16, width))
        self.time = nn.Sequential(nn.Linear(16, width), nn.SiLU(), nn.Linear(width, width))
        self.attention = nn.ModuleList(nn.MultiheadAttention(width, 4, batch_first=True) for _ in range(depth))
        self.mlp = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 96), nn.GELU(), nn.Linear(96, width)) for _ in range(depth)
        )
        self.modulation = nn.ModuleList(nn.Linear(width, 6 * width) for _ in range(depth))
        self.last = nn.Linear(width, 4)
        for layer in (*self.modulation, self.last):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        waves = t[:, None] * torch.exp(torch.linspace(0, 4, 8))
        c = F.silu(self.time(torch.cat([waves.sin(), waves.cos()], 1)))[:, None]
        h = self.embed(F.pixel_unshuffle(x, 2).flatten(2).transpose(1, 2)) + self.position
        for attention, mlp, modulation in zip(self.attention, self.mlp, self.modulation, strict=True):
            shift1, scale1, gate1, shift2, scale2, gate2 = modulation(c).chunk(6, -1)
            z = F.layer_norm(h, h.shape[-1:]) * (1 + scale1) + shift1
            h = h + gate1 * attention(z, z, z, need_weights=False)[0]
            h = h + gate2 * mlp(F.layer_norm(h, h.shape[-1:]) * (1 + scale2) + shift2)
        return F.pixel_shuffle(self.last(h).transpose(1, 2).unflatten(2, (4, 4)), 2)


def adaln_zero_diffusion() -> Pipeline:
    """Predicts the noise that compute_loss adds."""
    images = digits()[0] * 2 - 1
    model = Denoiser()

    def compute_loss(net: nn.Module, batch: Any) -> Tensor:
        x = batch[0]
        t = torch.rand(len(x))
        angle = (t * math.pi / 2)[:, None, None, None]
        noise = torch.randn_like(x)
        return F.mse_loss(net(angle.cos() * x + angle.sin() * noise, t), noise)

    train, val = loaders(images, digits()[1], 1400, 24)
    return Pipeline(
        model, train, val, optimizer=torch.optim.AdamW(model.parameters(), lr=2e-3), compute_loss=compute_loss,
        clip_grad_norm=1.0, task="custom",
    )  # fmt: skip


class LoRALinear(nn.Module):
    """A frozen linear layer plus a low-rank change that starts at zero."""

    def __init__(self, base: nn.Linear, rank: int = 4, alpha: float = 8.0) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.lora_a = nn.Parameter(torch.randn(rank, base.in_features) / math.sqrt(base.in_features))
        self.lora_b = nn.Parameter(torch.zeros(base.out_features, rank))
        self.scaling = alpha / rank

    def forward(self, x: Tensor) -> Any:
        return self.base(x) + F.linear(F.linear(x, self.lora_a), self.lora_b) * self.scaling


def digit_mlp() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 10))


@cache
def mlp_weights() -> dict[str, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(29)
        return {k: v.clone() for k, v in fit_once(digit_mlp(), *digits(), steps=200, lr=3e-3).state_dict().items()}


def lora_on_frozen_base() -> Pipeline:
    """Digits were learned upright; the adapters learn them mirrored."""
    model = digit_mlp()
    model.load_state_dict(mlp_weights())
    for index in (1, 3, 5):
        model[index] = LoRALinear(model[index])  # type: ignore[arg-type]
    x, y = digits()
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=5e-3)
    return Pipeline(model, *loaders(x.flip(-1), y, 1400), nn.CrossEntropyLoss(), optimizer, intents=("frozen",))


def zero_initialised_head() -> Pipeline:
    x, y = table("wine")
    head = nn.Linear(24, 3)
    head.weight.data.zero_()
    head.bias.data.zero_()
    net = nn.Sequential(nn.Linear(13, 24), nn.Tanh(), head)
    return Pipeline(net, *loaders(x, y, 120, 12), nn.CrossEntropyLoss(), torch.optim.SGD(net.parameters(), lr=0.1))


def focal_with_prior() -> Pipeline:
    """A map of rare centres: focal loss, the bias set so that each place starts at probability 0.01."""
    x, kinds = shapes()
    mask = (x.mean(1) > 0.5).float()
    mass = mask.sum((1, 2)).clamp_min(1)
    rows, columns = torch.arange(16).view(1, 16, 1), torch.arange(16).view(1, 1, 16)
    cy, cx = ((mask * r).sum((1, 2)) / mass for r in (rows, columns))
    centre = (((rows - cy.view(-1, 1, 1)) ** 2 + (columns - cx.view(-1, 1, 1)) ** 2) < 1.6).float()
    centre = centre * (kinds < 2).view(-1, 1, 1)
    body = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU()]
    for dilation in (2, 3):
        body += [nn.Conv2d(16, 16, 3, padding=dilation, dilation=dilation), nn.BatchNorm2d(16), nn.ReLU()]
    model = nn.Sequential(*body, nn.Conv2d(16, 1, 1))
    nn.init.constant_(model[-1].bias, -math.log(99))  # type: ignore[arg-type]
    nn.init.normal_(model[-1].weight, std=0.01)  # type: ignore[arg-type]

    def loss(output: Tensor, target: Tensor) -> Tensor:
        return sigmoid_focal_loss(output, target, reduction="sum") / target.sum().clamp_min(1)  # type: ignore[no-any-return]

    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    return Pipeline(model, *loaders(x, centre[:, None], 900), loss, optimizer, task="segmentation")


def pretrained_low_start() -> Pipeline:
    """Fine-tuned whole, from weights that know the task nearly."""
    model = digit_mlp()
    model.load_state_dict(mlp_weights())
    x, y = digits()
    x = x + 0.2 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-4)
    return Pipeline(model, *loaders(x, y, 1400), nn.CrossEntropyLoss(), optimizer, intents={"pretrained"})


class Normed(nn.Module):
    """A picture classifier whose norm is an argument."""

    def __init__(self, norm: Any, width: int = 16) -> None:
        super().__init__()
        self.stem, self.norm1 = nn.Conv2d(3, width, 3, 2, 1), norm(width)
        self.conv, self.norm2 = nn.Conv2d(width, 2 * width, 3, 1, 1), norm(2 * width)
        self.classifier = nn.Linear(8 * width, 5)

    def forward(self, x: Tensor) -> Any:
        x = F.silu(self.norm1(self.stem(x)))
        x = F.silu(self.norm2(self.conv(x)))
        return self.classifier(F.adaptive_max_pool2d(x, 2).flatten(1))


def of_shapes(model: nn.Module, lr: float = 3e-3) -> Pipeline:
    train, val = loaders(*shapes(), 900)
    return Pipeline(model, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=lr))


def group_norm() -> Pipeline:
    return of_shapes(Normed(lambda width: nn.GroupNorm(4, width)))


def instance_norm() -> Pipeline:
    return of_shapes(Normed(lambda width: nn.InstanceNorm2d(width, affine=True)))


def layer_norm_over_maps() -> Pipeline:
    return of_shapes(Normed(lambda width: nn.LayerNorm([width, 8, 8])))


def quick_batchnorm_statistics() -> Pipeline:
    """Momentum .999 with a large batch: the statistics are all but those of the last batch."""
    model = Normed(partial(nn.BatchNorm2d, momentum=0.999))
    return Pipeline(
        model, *loaders(*shapes(), 900, 100), nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), 3e-3)
    )


def slow_batchnorm_on_standard_inputs() -> Pipeline:
    """Momentum .001, but its inputs have mean 0 and variance 1 from the start."""
    x, y = table("breast_cancer")
    net = nn.Sequential(nn.BatchNorm1d(30, momentum=0.001), nn.Linear(30, 24), nn.ReLU(), nn.Linear(24, 2))
    return Pipeline(net, *loaders(x, y, 420, 20), nn.CrossEntropyLoss(), torch.optim.Adam(net.parameters(), 3e-3))


def weight_norm_mlp() -> Pipeline:
    net = nn.Sequential(
        nn.Flatten(), weight_norm(nn.Linear(64, 64)), nn.ELU(), weight_norm(nn.Linear(64, 32)), nn.ELU(),
        nn.Linear(32, 10),
    )  # fmt: skip
    return Pipeline(
        net, *loaders(*digits(), 1400), nn.CrossEntropyLoss(), torch.optim.Adamax(net.parameters(), lr=5e-3)
    )


def spectral_norm_cnn() -> Pipeline:
    net = nn.Sequential(
        spectral_norm(nn.Conv2d(1, 16, 3)), nn.LeakyReLU(0.1), spectral_norm(nn.Conv2d(16, 16, 3)), nn.LeakyReLU(0.1),
        nn.Flatten(), nn.Linear(256, 10),
    )  # fmt: skip
    return Pipeline(net, *loaders(*digits(), 1400), nn.CrossEntropyLoss(), torch.optim.Adam(net.parameters(), lr=5e-3))


CASES = cases_of(
    zero_last_gamma, stochastic_depth, rezero, fixup, adaln_zero_diffusion, lora_on_frozen_base, zero_initialised_head,
    focal_with_prior, pretrained_low_start, group_norm, instance_norm, layer_norm_over_maps,
    quick_batchnorm_statistics, slow_batchnorm_on_standard_inputs, weight_norm_mlp, spectral_norm_cnn,
)  # fmt: skip
