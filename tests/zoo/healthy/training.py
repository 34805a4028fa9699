"""Healthy: what users do to targets, inputs and steps when they train a picture classifier."""

from __future__ import annotations

from collections import OrderedDict
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset, default_collate
from torchvision.transforms import v2

from diagnose.pipeline import Pipeline
from zoo.healthy.common import cases_of, digits, loaders, shapes


def conv_bn(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class ShapeNet(nn.Module):
    """Three stages of convolutions, global average pooling, one linear layer."""

    def __init__(self, channels: int = 3, classes: int = 5, width: int = 12) -> None:
        super().__init__()
        self.features = nn.Sequential(
            conv_bn(channels, width), conv_bn(width, 2 * width, 2), conv_bn(2 * width, 2 * width, 2)
        )
        self.fc = nn.Linear(2 * width, classes)

    def forward(self, x: Tensor) -> Any:
        return self.fc(self.features(x).mean((2, 3)))


def fit_once(model: nn.Module, x: Tensor, y: Tensor, steps: int = 150, lr: float = 1e-2) -> nn.Module:
    """A short training that leaves the global random state as it was."""
    g = torch.Generator().manual_seed(3)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for _ in range(steps):
        pick = torch.randint(0, len(x), (64,), generator=g)
        optimizer.zero_grad()
        F.cross_entropy(model(x[pick]), y[pick]).backward()
        optimizer.step()
    return model.eval()


@cache
def checkpoint() -> dict[str, Tensor]:
    """What "pretrained" weights are here: a ShapeNet trained on shapes."""
    with torch.random.fork_rng():
        torch.manual_seed(17)
        return {k: v.clone() for k, v in fit_once(ShapeNet(), *shapes()).state_dict().items()}


class Transfer(nn.Module):
    """A frozen, pretrained backbone that stays in eval mode, under a new head for two coarse classes."""

    def __init__(self) -> None:
        super().__init__()
        source = ShapeNet()
        source.load_state_dict(checkpoint())
        self.backbone = source.features
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(24 * 16, 2))
        for parameter in self.backbone.parameters():
            parameter.requires_grad = False

    def train(self, mode: bool = True) -> Transfer:
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, x: Tensor) -> Any:
        return self.head(self.backbone(x))


def transfer_data() -> tuple[DataLoader[Any], DataLoader[Any]]:
    x, y = shapes(16, 16, 1201)
    return loaders(x[:900], (y[:900] >= 3).long(), 640)


def frozen_backbone_declared() -> Pipeline:
    model = Transfer()
    head = torch.optim.AdamW(model.head.parameters(), lr=3e-3)
    return Pipeline(
        model, *transfer_data(), nn.CrossEntropyLoss(), head, num_classes=2, intents=("frozen", "pretrained")
    )


def frozen_backbone_undeclared() -> Pipeline:
    """All parameters are handed to the optimizer; the frozen ones simply have no gradient."""
    model = Transfer()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    return Pipeline(model, *transfer_data(), nn.CrossEntropyLoss(), optimizer)


def smoothed_labels() -> Pipeline:
    model = ShapeNet()
    return Pipeline(
        model=model,
        train=loaders(*shapes(), 900)[0],
        val=loaders(*shapes(), 900)[1],
        loss=nn.CrossEntropyLoss(label_smoothing=0.1),
        optimizer=torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.05),
        num_classes=5,
    )


def mixup_in_collate() -> Pipeline:
    """v2.MixUp in collate_fn: soft targets in training, class numbers in validation."""
    mixup = v2.MixUp(alpha=0.4, num_classes=5)

    def collate(samples: list[Any]) -> Any:
        return mixup(*default_collate(samples))

    x, y = shapes()
    model = ShapeNet(width=16)
    train = DataLoader(TensorDataset(x[:900], y[:900]), 36, shuffle=True, collate_fn=collate)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    return Pipeline(model, train, loaders(x, y, 900)[1], F.cross_entropy, optimizer, num_classes=5)


def soft_crowd_labels() -> Pipeline:
    """Targets are distributions over the classes in both splits, as votes of annotators give them."""
    x, y = digits()
    votes = torch.full((len(y), 10), 0.02).scatter_(1, y[:, None], 0.82)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    return Pipeline(
        model, *loaders(x, votes, 1400), nn.CrossEntropyLoss(), optimizer, num_classes=10, intents=("soft-targets",)
    )


@cache
def teacher_weights() -> dict[str, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(23)
        x, y = digits()
        teacher = fit_once(ShapeNet(1, 10, 24), x[:1400], y[:1400])
        return {k: v.clone() for k, v in teacher.state_dict().items()}


def distillation() -> Pipeline:
    """A student learns from a frozen teacher that only compute_loss knows."""
    teacher = ShapeNet(1, 10, 24)
    teacher.load_state_dict(teacher_weights())
    teacher.eval().requires_grad_(False)
    student = ShapeNet(1, 10, 8)

    def compute_loss(model: nn.Module, batch: Any, temperature: float = 3.0) -> tuple[Tensor, Tensor]:
        images, labels = batch
        logits = model(images)
        with torch.no_grad():
            wanted = teacher(images)
        soft = F.kl_div(
            F.log_softmax(logits / temperature, dim=-1), F.softmax(wanted / temperature, dim=-1), reduction="batchmean"
        )
        return 0.3 * F.cross_entropy(logits, labels) + 0.7 * temperature**2 * soft, logits

    optimizer = torch.optim.Adam(student.parameters(), lr=5e-3)
    return Pipeline(student, *loaders(*digits(), 1400), optimizer=optimizer, compute_loss=compute_loss)


class RawPixels(nn.Module):
    """Takes bytes, as a decoder gives them, and normalises them itself."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.33, 0.33, 0.33]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.27, 0.27, 0.27]).view(1, 3, 1, 1))
        self.net = ShapeNet()

    def forward(self, pixels: Tensor) -> Any:
        return self.net((pixels.float() / 255 - self.mean) / self.std)


def bytes_normalised_in_model() -> Pipeline:
    x, y = shapes()
    model = RawPixels()
    pixels = (x * 255).round().to(torch.uint8)
    return Pipeline(
        model, *loaders(pixels, y, 900), nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), 5e-3),
        num_classes=5,
    )  # fmt: skip


def float_pixels_before_batchnorm() -> Pipeline:
    """Inputs from 0 to 255; the first convolution is followed by BatchNorm, so that their scale does not matter."""
    x, y = shapes()
    model = ShapeNet()
    optimizer = torch.optim.NAdam(model.parameters(), lr=3e-3)
    return Pipeline(model, *loaders((x * 255).round(), y, 900), nn.CrossEntropyLoss(), optimizer)


def imagenet_statistics() -> Pipeline:
    """Normalised by the usual constants in the data set's transform."""

    class Pictures(Dataset[tuple[Tensor, int]]):
        def __init__(self, part: slice) -> None:
            self.images, self.labels = shapes()[0][part], shapes()[1][part]
            self.transform = v2.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])

        def __len__(self) -> int:
            return len(self.labels)

        def __getitem__(self, i: int) -> tuple[Tensor, int]:
            return self.transform(self.images[i]), int(self.labels[i])

    net = ShapeNet()
    train = DataLoader(Pictures(slice(0, 900)), batch_size=30, shuffle=True, drop_last=True)
    val = DataLoader(Pictures(slice(900, 1200)), batch_size=100)
    return Pipeline(net, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(net.parameters(), lr=5e-3))


def optimizer_before_to_device() -> Pipeline:
    model = ShapeNet()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=2e-3)
    device = torch.device("cpu")
    model = model.to(device)
    return Pipeline(model, *loaders(*shapes(), 900, 24), nn.CrossEntropyLoss().to(device), optimizer)


def adam_clipped_at_a_thousandth() -> Pipeline:
    model = ShapeNet(1, 10)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    return Pipeline(model, *loaders(*digits(), 1400), nn.CrossEntropyLoss(), optimizer, clip_grad_norm=1e-3)


def summed_loss_under_adam() -> Pipeline:
    model = ShapeNet(1, 10)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    return Pipeline(model, *loaders(*digits(), 1400), nn.CrossEntropyLoss(reduction="sum"), optimizer)


def turned_erased_noisy(samples: list[Any]) -> tuple[Tensor, Tensor]:
    """A batch, each picture turned by up to 25 degrees and moved, with a hole of 4 by 4, and noise."""
    x, y = default_collate(samples)
    n, height = len(x), x.shape[-2]
    angle = (torch.rand(n) - 0.5) * 0.87
    shift = 0.15 * (torch.rand(n, 2) - 0.5)
    turn = torch.stack([angle.cos(), -angle.sin(), shift[:, 0], angle.sin(), angle.cos(), shift[:, 1]], 1).view(n, 2, 3)
    x = F.grid_sample(x, F.affine_grid(turn, list(x.shape), False), padding_mode="border", align_corners=False)
    for image, (row, column) in zip(x, torch.randint(0, height - 4, (n, 2)).tolist(), strict=True):
        image[:, row : row + 4, column : column + 4] = 0.3
    return x + 0.1 * torch.randn_like(x), y


def heavy_augmentation_that_learns() -> Pipeline:
    """Rotations, erasing and noise, in the collate function of training alone."""
    x, y = shapes()
    model = ShapeNet(width=16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    train = DataLoader(TensorDataset(x[:900], y[:900]), batch_size=32, shuffle=True, collate_fn=turned_erased_noisy)
    return Pipeline(model, train, loaders(x, y, 900)[1], nn.CrossEntropyLoss(), optimizer, num_classes=5)


def batchnorm_with_pairs() -> Pipeline:
    """A batch of two: large maps give BatchNorm enough values all the same."""
    x, y = shapes()
    net = ShapeNet()
    train = DataLoader(TensorDataset(x[:900], y[:900]), batch_size=2, shuffle=True)
    val = loaders(x, y, 900)[1]
    return Pipeline(net, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(net.parameters(), lr=5e-3), accumulate=4)


def batchnorm_with_fours() -> Pipeline:
    net = ShapeNet()
    train, val = loaders(*shapes(), 900, batch_size=4)
    return Pipeline(net, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(net.parameters(), lr=2e-3))


def log_softmax_with_nll() -> Pipeline:
    layers = [
        ("conv1", nn.Conv2d(1, 16, 3)), ("relu1", nn.ReLU()), ("conv2", nn.Conv2d(16, 16, 3)), ("relu2", nn.ReLU()),
        ("flat", nn.Flatten()), ("drop", nn.Dropout(0.25)), ("fc", nn.Linear(256, 10)), ("out", nn.LogSoftmax(dim=1)),
    ]  # fmt: skip
    net = nn.Sequential(OrderedDict(layers))
    return Pipeline(net, *loaders(*digits(), 1400), nn.NLLLoss(), torch.optim.Adadelta(net.parameters(), lr=1.0))


CASES = cases_of(
    frozen_backbone_declared, frozen_backbone_undeclared, smoothed_labels, mixup_in_collate, soft_crowd_labels,
    distillation, bytes_normalised_in_model, float_pixels_before_batchnorm, imagenet_statistics,
    optimizer_before_to_device, adam_clipped_at_a_thousandth, summed_loss_under_adam, heavy_augmentation_that_learns,
    batchnorm_with_pairs, batchnorm_with_fours, log_softmax_with_nll,
)  # fmt: skip
