"""Inputs on the wrong scale or in the wrong layout, and classes of very different sizes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import small_pipelines as small
import torch
from probing import Judged, judge
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from diagnose.pipeline import Pipeline
from probes.results import Status

Build = Callable[[], Pipeline]
IMAGENET = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


# -- pictures of one channel ------------------------------------------------------------------------------------------


def divided_again() -> Pipeline:
    return small.digits_cnn(images=lambda x: x / 255)


def with_transforms(*transforms: Any) -> Pipeline:
    from torchvision.transforms import Compose

    return small.digits_cnn(transform=Compose(transforms))


def mnist() -> Any:
    from torchvision.transforms import Normalize

    return Normalize((0.1307,), (0.3081,))


def two_normalise() -> Pipeline:
    return with_transforms(mnist(), mnist())


def one_normalise() -> Pipeline:
    return with_transforms(mnist())


def in_bytes(optimizer: Callable[[nn.Module], Any] | None = None, norm: bool = False) -> Pipeline:
    def net() -> nn.Module:
        return nn.Sequential(nn.BatchNorm2d(1), small.cnn()) if norm else small.cnn()

    return small.digits_cnn(model=net, images=lambda x: 5000 + 255 * x, optimizer=optimizer)


def far_from_zero() -> Pipeline:
    """Some instrument's counts, with an offset."""
    return in_bytes(lambda net: torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9))


def far_but_normalised_inside() -> Pipeline:
    return in_bytes(lambda net: torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9), norm=True)


# -- pictures of three channels ---------------------------------------------------------------------------------------


def rgb(x: Tensor) -> Tensor:
    """Digits as coloured pictures of 16 x 16, from 0 to 1 in every channel."""
    large = F.interpolate(x, scale_factor=2, mode="bilinear")
    tint = torch.tensor([1.0, 0.8, 0.6]).view(1, 3, 1, 1)
    coloured = large * tint + (1 - large) * (1 - tint)
    low, high = coloured.amin((0, 2, 3), keepdim=True), coloured.amax((0, 2, 3), keepdim=True)
    return (coloured - low) / (high - low)


def net_of_rgb() -> nn.Sequential:
    net = small.cnn()
    net[0] = nn.Conv2d(3, 8, 3, padding=1)
    return net


def coloured(change: Callable[[Tensor], Tensor], model: Callable[[], nn.Module] = net_of_rgb) -> Pipeline:
    return small.digits_cnn(model=model, images=lambda x: change(rgb(x)))


def normalised(x: Tensor, mean: Any, std: Any) -> Tensor:
    return (x - torch.as_tensor(mean).view(1, -1, 1, 1)) / torch.as_tensor(std).view(1, -1, 1, 1)


def statistics_of_bytes() -> Pipeline:
    return coloured(lambda x: normalised(x, 255 * IMAGENET[0], 255 * IMAGENET[1]))


def bytes_with_statistics_of_0_1() -> Pipeline:
    return coloured(lambda x: normalised(255 * x, *IMAGENET))


def mean_and_std_swapped() -> Pipeline:
    return coloured(lambda x: normalised(x, IMAGENET[1], IMAGENET[0]))


def imagenet() -> Pipeline:
    return coloured(lambda x: normalised(x, *IMAGENET))


def imagenet_twice() -> Pipeline:
    return coloured(lambda x: normalised(normalised(x, *IMAGENET), *IMAGENET))


def halves() -> Pipeline:
    return coloured(lambda x: normalised(x, [0.5] * 3, [0.5] * 3))


def own_statistics() -> Pipeline:
    return coloured(lambda x: normalised(x, x.mean((0, 2, 3)), x.std((0, 2, 3))))


def from_0_to_1() -> Pipeline:
    return coloured(lambda x: x)


class Rearranges(nn.Module):
    """Takes (N, H, W, C)."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self.change = net_of_rgb(), change

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(self.change(x))
        return out


def last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).contiguous()


def viewed(x: Tensor) -> Tensor:
    n, h, w, c = x.shape
    return x.reshape(n, c, h, w)


def viewed_in_the_data() -> Pipeline:
    return coloured(lambda x: viewed(last(x)))


def viewed_in_forward() -> Pipeline:
    return coloured(last, model=lambda: Rearranges(viewed))


def permuted_in_the_data() -> Pipeline:
    return coloured(lambda x: last(x).permute(0, 3, 1, 2))


def permuted_in_forward() -> Pipeline:
    return coloured(last, model=lambda: Rearranges(lambda x: x.permute(0, 3, 1, 2)))


def noise() -> Pipeline:
    return coloured(lambda x: torch.rand(x.shape, generator=torch.Generator().manual_seed(0)))


# -- tables -----------------------------------------------------------------------------------------------------------


def table(scale: Callable[[Tensor], Tensor], norm: bool = False) -> Pipeline:
    """Eight columns, of which the two small ones decide."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(700, 8, generator=g)
    y = (x[:, 0] * 2 + x[:, 1] > 0).long()
    x = scale(x * torch.tensor([1e-2, 1e-2, 1.0, 1.0, 1.0, 1.0, 30.0, 1e3]))
    model = nn.Sequential(nn.BatchNorm1d(8) if norm else nn.Identity(), nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    return Pipeline(
        model,
        DataLoader(TensorDataset(x[:500], y[:500]), batch_size=32, shuffle=True),
        DataLoader(TensorDataset(x[500:], y[500:]), batch_size=100),
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
    )


def wild() -> Pipeline:
    return table(lambda x: x)


def standardised() -> Pipeline:
    return table(lambda x: (x - x.mean(0)) / x.std(0))


def wild_into_batchnorm() -> Pipeline:
    return table(lambda x: x, norm=True)


# -- classes of different sizes ---------------------------------------------------------------------------------------


def two_digits(rare: int, weighted: bool = False, drawn: bool = False) -> Pipeline:
    """3 against 8, with noise; ``rare`` of the 8s in training, and as many of both in validation."""
    x, y = small.digits_tensors()
    threes, eights = x[y == 3], x[y == 8]
    noisy = torch.cat([threes[:120], eights[:rare], threes[120:170], eights[120:170]])
    noisy = noisy + 0.6 * torch.randn(noisy.shape, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0] * 120 + [1] * rare + [0] * 50 + [1] * 50)
    size = 120 + rare
    train = TensorDataset(noisy[:size], labels[:size])
    weights = torch.where(labels[:size] == 0, 1 / 120, 1 / rare).tolist()
    order: dict[str, Any] = {"sampler": WeightedRandomSampler(weights, size)} if drawn else {"shuffle": True}
    net = small.cnn()
    net[-1] = nn.Linear(64, 2)
    return Pipeline(
        net,
        DataLoader(train, batch_size=16, **order),
        DataLoader(TensorDataset(noisy[size:], labels[size:]), batch_size=50),
        loss=nn.CrossEntropyLoss(weight=torch.tensor([1.0, 120 / rare]) if weighted else None),
        optimizer=torch.optim.SGD(net.parameters(), lr=0.02),
        num_classes=2,
    )


def few_of_one_class() -> Pipeline:
    return two_digits(6)


def few_but_weighted() -> Pipeline:
    return two_digits(6, weighted=True)


def few_but_drawn_as_often() -> Pipeline:
    return two_digits(6, drawn=True)


def as_many_of_both() -> Pipeline:
    return two_digits(120)


TWICE, WRONG, LAYOUT = "inputs-normalised-twice", "wrong-normalisation-statistics", "scrambled-image-layout"
RIGHT = (imagenet, halves, own_statistics, from_0_to_1)
FAULTS: list[tuple[str, Build, tuple[Build, ...]]] = [
    (TWICE, divided_again, (small.plain_cnn, *RIGHT)),
    (TWICE, two_normalise, (one_normalise,)),
    (TWICE, imagenet_twice, (statistics_of_bytes, small.tabular_mlp)),
    (WRONG, statistics_of_bytes, (small.plain_cnn, *RIGHT)),
    (WRONG, bytes_with_statistics_of_0_1, (one_normalise,)),
    (WRONG, mean_and_std_swapped, (small.tabular_mlp, small.segmentation)),
    (LAYOUT, viewed_in_the_data, (permuted_in_the_data, imagenet, small.plain_cnn, small.segmentation)),
    (LAYOUT, viewed_in_forward, (permuted_in_forward, noise, small.tabular_mlp)),
    ("features-on-wild-scales", wild, (standardised, wild_into_batchnorm, small.tabular_mlp, small.plain_cnn)),
    ("inputs-not-normalised", far_from_zero, (far_but_normalised_inside, small.plain_cnn, imagenet)),
    ("class-imbalance", few_of_one_class, (as_many_of_both, few_but_weighted, few_but_drawn_as_often)),
]
TRAINED = {far_from_zero, wild}  # several short trainings
PAIRS = [(name, twin) for name, _, twins in FAULTS for twin in twins]


@cache
def found(name: str, build: Build) -> Judged:
    return judge(name, build)


def slow_where_trained(name: str, build: Build) -> Any:
    marks = (pytest.mark.slow,) if build in TRAINED else ()
    return pytest.param(name, build, marks=marks, id=f"{name}-{build.__name__}")


@pytest.mark.parametrize(("name", "faulty"), [slow_where_trained(n, f) for n, f, _ in FAULTS])
def test_finds_its_fault(name: str, faulty: Build) -> None:
    judged = found(name, faulty)
    assert judged.names == [name], judged.result.reason
    assert judged.status is Status.FAIL


@pytest.mark.parametrize(("name", "healthy"), PAIRS, ids=lambda x: getattr(x, "__name__", x))
@pytest.mark.parametrize("seed", range(3))
def test_is_silent_on_the_twin(name: str, healthy: Build, seed: int) -> None:
    judged = judge(name, healthy, seed)
    assert judged.findings == (), judged.result
    assert judged.status in {Status.PASS, Status.SKIPPED}, judged.result


def test_the_range_is_told() -> None:
    values = found(TWICE, divided_again).values
    assert values["low"] == 0
    assert values["high"] == pytest.approx(1 / 255, rel=0.01)


def test_equal_transforms_are_counted() -> None:
    assert found(TWICE, two_normalise).values["count"] == 2


@pytest.mark.parametrize("build", [statistics_of_bytes, bytes_with_statistics_of_0_1, mean_and_std_swapped])
def test_the_statistics_are_named(build: Build) -> None:
    values = found(WRONG, build).values
    assert (values["recipe"], values["grade"]) == ("ImageNet", "proved")


@pytest.mark.parametrize("build", [viewed_in_the_data, viewed_in_forward])
def test_how_much_smoother_the_other_reading_is(build: Build) -> None:
    assert found(LAYOUT, build).values["times"] > 1.2


@pytest.mark.slow
def test_what_standardised_columns_gain() -> None:
    values = found("features-on-wild-scales", wild).values
    assert values["ratio"] == pytest.approx(1e5, rel=0.5)
    assert values.get("accuracy_standardised", 1.0) > values.get("accuracy", 0.0)


@pytest.mark.slow
def test_the_scale_that_nothing_learns_from_is_told() -> None:
    values = found("inputs-not-normalised", far_from_zero).values
    assert values["mean"] > 5000


def test_the_recall_of_the_rare_class_is_told() -> None:
    values = found("class-imbalance", few_of_one_class).values
    assert (values["common"], values["most"], values["rare"], values["least"]) == (0, 120, 1, 6)
    assert values["rare_recall"] < 0.5 * values["others"]
