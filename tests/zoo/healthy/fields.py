"""Healthy: maps, signals, volumes, graphs and sets."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from diagnose.pipeline import Pipeline
from zoo.healthy.common import cases_of, digits, loaders, shapes


def adam(model: nn.Module, lr: float = 5e-3) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=lr)


class SmallUNet(nn.Module):
    """One step down, one up, a skip between."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU())
        self.middle = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(12, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU())
        self.up = nn.ConvTranspose2d(24, 12, 2, stride=2)
        self.last = nn.Conv2d(24, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Any:
        fine = self.down(x)
        return self.last(torch.cat([fine, self.up(self.middle(fine))], dim=1))


def dice_and_bce() -> Pipeline:
    """Bright things against the ground, as one map."""

    def loss(logits: Tensor, mask: Tensor) -> Tensor:
        p = logits.sigmoid()
        dice = 1 - (2 * (p * mask).sum((1, 2, 3)) + 1) / ((p + mask).sum((1, 2, 3)) + 1)
        return dice.mean() + F.binary_cross_entropy_with_logits(logits, mask)

    x, _ = shapes()
    mask = (F.avg_pool2d(x, 3, 1, 1).mean(1, keepdim=True) > 0.5).float()
    model = SmallUNet(1)
    return Pipeline(model, *loaders(x, mask, 800, 16), loss, adam(model), task="segmentation")


def three_classes_with_void() -> Pipeline:
    """Ground, disc-like, striped; a border of the label map is void (-1) and ignored."""
    x, kind = shapes()
    inside = F.avg_pool2d(x, 3, 1, 1).mean(1) > 0.45
    labels = torch.where(inside, torch.where(kind < 2, 1, 2).view(-1, 1, 1), 0)
    labels[:, :, 0] = labels[:, :, -1] = labels[:, 0] = labels[:, -1] = -1
    model = SmallUNet(3)
    return Pipeline(
        model, *loaders(x, labels, 800, 16), nn.CrossEntropyLoss(ignore_index=-1), adam(model), num_classes=3,
        task="segmentation",
    )  # fmt: skip


def keypoint_heatmaps() -> Pipeline:
    """Two maps: where the red spot is, and where the green one is; most of the target is nearly zero."""
    g = torch.Generator().manual_seed(41)
    x = 0.3 * torch.rand(900, 3, 16, 16, generator=g)
    places = torch.randint(2, 14, (900, 2, 2), generator=g)
    rows, columns = torch.arange(16).view(16, 1), torch.arange(16).view(1, 16)
    maps = torch.exp(-((rows - places[..., :1, None]) ** 2 + (columns - places[..., 1:, None]) ** 2) / 3.0)
    x[:, :2] += 0.6 * maps
    x[:, 2] += 0.5 * maps.flip(-1).amax(1)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 5, padding=2), nn.ReLU(), nn.Conv2d(16, 16, 5, padding=2), nn.ReLU(), nn.Conv2d(16, 2, 1)
    )
    return Pipeline(model, *loaders(x, maps, 700, 14), nn.MSELoss(), adam(model, 3e-3), task="regression")


def non_square_pictures() -> Pipeline:
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=(1, 2), padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.AdaptiveMaxPool2d((2, 3)), nn.Flatten(),
        nn.Linear(144, 5),
    )  # fmt: skip
    return Pipeline(model, *loaders(*shapes(14, 40), 900, 24), nn.CrossEntropyLoss(), adam(model), num_classes=5)


def signals_1d() -> Pipeline:
    """Three wave forms on two channels; the phase is free and the amplitude differs."""
    g = torch.Generator().manual_seed(42)
    y = torch.randint(0, 3, (900,), generator=g)
    t = torch.linspace(0, 6, 64) + 6 * torch.rand(900, 1, generator=g)
    wave = torch.stack([torch.sin(3 * t), torch.sign(torch.sin(3 * t)), (3 * t / 6.2832) % 1 * 2 - 1], 1)
    wave = wave[torch.arange(900), y] * (0.5 + torch.rand(900, 1, generator=g))
    x = torch.stack([wave, wave.roll(5, 1)], 1) + 0.3 * torch.randn(900, 2, 64, generator=g)
    net = nn.Sequential(
        nn.Conv1d(2, 24, 9, padding=4), nn.BatchNorm1d(24), nn.ReLU(), nn.MaxPool1d(2),
        nn.Conv1d(24, 24, 5, padding=2), nn.BatchNorm1d(24), nn.ReLU(), nn.AdaptiveAvgPool1d(4), nn.Flatten(),
        nn.Linear(96, 3),
    )  # fmt: skip
    return Pipeline(net, *loaders(x, y, 700), nn.CrossEntropyLoss(), torch.optim.SGD(net.parameters(), 0.03, 0.9))


def volumes_3d() -> Pipeline:
    """Which way a spot moves through six frames: four classes."""
    g = torch.Generator().manual_seed(43)
    y = torch.randint(0, 4, (640,), generator=g)
    way = torch.tensor([[0, 1], [0, -1], [1, 0], [-1, 0]])[y].float()
    place = 5.5 + 2 * (torch.rand(640, 1, 2, generator=g) - 0.5) + (torch.arange(6).view(1, 6, 1) - 2.5) * way[:, None]
    grid = torch.arange(12.0)
    spot = torch.exp(-((grid.view(12, 1) - place[..., :1, None]) ** 2 + (grid - place[..., 1:, None]) ** 2) / 2)
    x = spot.unsqueeze(1) + 0.2 * torch.randn(640, 1, 6, 12, 12, generator=g)
    model = nn.Sequential(
        nn.Conv3d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool3d((1, 2, 2)), nn.Conv3d(8, 16, 3), nn.ReLU(),
        nn.AdaptiveAvgPool3d((1, 2, 2)), nn.Flatten(), nn.Linear(64, 4),
    )  # fmt: skip
    return Pipeline(model, *loaders(x, y, 512, 16), nn.CrossEntropyLoss(), adam(model), num_classes=4)


class GraphNet(nn.Module):
    """Messages are added over the edges; nodes are averaged over each graph of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 32), nn.Linear(64, 32)
        self.head = nn.Linear(32, 2)

    def forward(self, x: Tensor, edge_index: Tensor, graph: Tensor) -> Any:
        source, target = edge_index
        sums = torch.zeros_like(x).index_add_(0, target, x[source])
        h = F.relu(self.first(torch.cat([x, sums], 1)))
        sums = torch.zeros_like(h).index_add_(0, target, h[source])
        h = F.relu(self.second(torch.cat([h, sums], 1)))
        count = torch.bincount(graph).unsqueeze(1)
        return self.head(torch.zeros(len(count), 32).index_add_(0, graph, h) / count)


@cache
def graphs() -> list[tuple[Tensor, Tensor, int]]:
    """Nodes of three kinds; in class 0 edges join equal kinds more often than in class 1."""
    g = torch.Generator().manual_seed(44)
    made = []
    for i in range(700):
        n = int(torch.randint(7, 13, (1,), generator=g))
        kind = torch.randint(0, 3, (n,), generator=g)
        equal = (kind[:, None] == kind[None]).float()
        chance = 0.1 + 0.55 * (equal if i % 2 == 0 else 0.5 * (1 - equal))
        upper = torch.triu(torch.rand(n, n, generator=g) < chance, 1)
        made.append((F.one_hot(kind, 3).float(), (upper | upper.t()).nonzero().t(), i % 2))
    return made


def graph_classification() -> Pipeline:
    """Graphs of a batch are joined to one graph without edges between them."""

    def collate(rows: list[tuple[Tensor, Tensor, int]]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        sizes = torch.tensor([len(x) for x, _, _ in rows])
        starts = (sizes.cumsum(0) - sizes).tolist()
        edges = torch.cat([edge + start for (_, edge, _), start in zip(rows, starts, strict=True)], dim=1)
        graph = torch.arange(len(rows)).repeat_interleave(sizes)
        return torch.cat([x for x, _, _ in rows]), edges, graph, torch.tensor([y for _, _, y in rows])

    data: Any = graphs()
    model = GraphNet()
    train = DataLoader(data[:560], batch_size=28, shuffle=True, collate_fn=collate)
    val = DataLoader(data[560:], batch_size=70, collate_fn=collate)
    return Pipeline(model, train, val, nn.CrossEntropyLoss(), adam(model), num_classes=2)


class PointNet(nn.Module):
    """The same layers for each point, then the maximum over all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.point = nn.Sequential(nn.Conv1d(3, 32, 1), nn.BatchNorm1d(32), nn.ReLU(), nn.Conv1d(32, 64, 1))
        self.fc = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 4))

    def forward(self, cloud: Tensor) -> Any:
        return self.fc(self.point(cloud.transpose(1, 2)).amax(-1))


def point_clouds() -> Pipeline:
    """48 points on a ball, a cube, a cylinder or a plane, turned about the vertical."""
    g = torch.Generator().manual_seed(45)
    n = 800
    y = torch.randint(0, 4, (n,), generator=g)
    raw = torch.randn(n, 48, 3, generator=g)
    ball = F.normalize(raw, dim=-1)
    cube = raw.clamp(-1, 1) / raw.clamp(-1, 1).abs().amax(-1, keepdim=True)
    cylinder = torch.cat([F.normalize(raw[..., :2], dim=-1), raw[..., 2:].tanh()], -1)
    plane = torch.cat([raw[..., :2].tanh(), 0.3 * raw[..., :1].tanh()], -1)
    cloud = torch.stack([ball, cube, cylinder, plane], 1)[torch.arange(n), y]
    angle = 6.2832 * torch.rand(n, generator=g)
    c, s, o, e = angle.cos(), angle.sin(), torch.zeros(n), torch.ones(n)
    turn = torch.stack([c, -s, o, s, c, o, o, o, e], 1).view(n, 3, 3)
    cloud = cloud @ turn + 0.03 * torch.randn(n, 48, 3, generator=g)
    model = PointNet()
    return Pipeline(model, *loaders(cloud, y, 640, 20), nn.CrossEntropyLoss(), adam(model), num_classes=4)


class Denoising(nn.Module):
    """Clean pictures out of noisy ones; the noise is drawn in training alone."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 24, 3, 2, 1), nn.ReLU())
        self.decoder = nn.Sequential(
            nn.Upsample(scale_factor=2), nn.Conv2d(24, 16, 3, 1, 1), nn.ReLU(),
            nn.Upsample(scale_factor=2), nn.Conv2d(16, 1, 3, 1, 1), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Any:
        if self.training:
            x = x + 0.3 * torch.randn_like(x)
        return self.decoder(self.encoder(x))


def denoising_autoencoder() -> Pipeline:
    def compute_loss(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        x = batch[0]
        out = model(x)
        return F.mse_loss(out, x), out

    model = Denoising()
    return Pipeline(model, *loaders(*digits(), 1400), optimizer=adam(model), compute_loss=compute_loss, task="custom")


class RunningScale(nn.Module):
    """Keeps the mean and the spread of its inputs in buffers, without gradients, and standardises with them."""

    mean: Tensor
    square: Tensor

    def __init__(self, size: int, rate: float = 0.05) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("square", torch.ones(size))
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                self.mean.lerp_(x.mean(0), self.rate)
                self.square.lerp_(x.square().mean(0), self.rate)
        return (x - self.mean) / (self.square - self.mean**2).clamp_min(1e-4).sqrt()


def statistics_without_gradient() -> Pipeline:
    """Columns of unlike size are standardised inside the model."""
    g = torch.Generator().manual_seed(46)
    z = torch.randn(900, 6, generator=g)
    y = ((z[:, 0] + z[:, 1] * z[:, 2] + 0.2 * torch.randn(900, generator=g)) > 0).long()
    x = z * torch.tensor([5.0, 1.0, 0.3, 8.0, 2.0, 1.0]) + torch.tensor([10.0, 0.0, 1.0, -20.0, 3.0, 0.0])
    net = nn.Sequential(RunningScale(6), nn.Linear(6, 48), nn.ReLU(), nn.Linear(48, 2))
    return Pipeline(net, *loaders(x, y, 700), nn.CrossEntropyLoss(), adam(net), num_classes=2)


CASES = cases_of(
    dice_and_bce, three_classes_with_void, keypoint_heatmaps, non_square_pictures, signals_1d, volumes_3d,
    graph_classification, point_clouds, denoising_autoencoder, statistics_without_gradient,
)  # fmt: skip
