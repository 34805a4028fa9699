"""Probes that train for a few hundred steps, and the changes under which they train again."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import small_pipelines as small
import torch
from probing import Judged, context, judge
from torch import Tensor, nn
from torch.utils.data import DataLoader

from diagnose.experiments import data_knobs, wider
from diagnose.pipeline import Pipeline
from probes.api import Skip
from probes.results import Status

slow = pytest.mark.slow
Build = Callable[[], Pipeline]


def lagging(momentum: float, normed: bool = True) -> Pipeline:
    def net() -> nn.Module:
        made = small.cnn(batchnorm=normed)
        for module in made.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = momentum
        return made

    return small.digits_cnn(model=net)


def hardly_follows() -> Pipeline:
    return lagging(0.001)


def follows() -> Pipeline:
    return lagging(0.1)


def without_batchnorm() -> Pipeline:
    return lagging(0.1, normed=False)


def hidden(width: int) -> Pipeline:
    def net() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))

    return small.digits_cnn(model=net, optimizer=lambda made: torch.optim.Adam(made.parameters(), lr=5e-3))


def two_wide() -> Pipeline:
    return hidden(2)


def wide() -> Pipeline:
    return hidden(32)


def few_samples() -> Pipeline:
    return small.digits_cnn(n=50)


def upside_down(image: Tensor) -> Tensor:
    """Half of the pictures, turned by 180 degrees."""
    return image.flip(1, 2) if torch.rand(()) < 0.5 else image


def drowned(image: Tensor) -> Tensor:
    return image + 100 * torch.randn_like(image)


def turned() -> Pipeline:
    return small.digits_cnn(transform=upside_down)


def shifted() -> Pipeline:
    return small.digits_cnn(transform=small.shifted)


def in_noise() -> Pipeline:
    return small.digits_cnn(transform=drowned)


def other_targets() -> Pipeline:
    """The loss is given the class after the one that is asked for."""

    def loss(net: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        logits = net(batch[0])
        return nn.functional.cross_entropy(logits, (batch[1] + 1) % 10), logits

    return small.digits_cnn(compute_loss=loss)


LAG, CAPACITY, FEW = "batchnorm-statistics-lag", "capacity-too-small", "too-few-samples"
LABELS, STRONG, METRIC = "label-destroying-augmentation", "augmentation-too-strong", "metric-loss-disagree"
FAULTS: list[tuple[str, Build, tuple[Build, ...]]] = [
    (LAG, hardly_follows, (follows, without_batchnorm, small.digits_augmented)),
    (CAPACITY, two_wide, (wide, small.plain_cnn)),
    (FEW, few_samples, (small.plain_cnn, wide)),
    (LABELS, turned, (shifted, small.plain_cnn)),
    (STRONG, in_noise, (shifted, small.plain_cnn)),
    (METRIC, other_targets, (small.plain_cnn, follows, wide, small.tabular_mlp, small.regression)),
]
LONG = {hardly_follows, few_samples, in_noise, shifted, turned, other_targets}  # which train more than 2 s


@cache
def found(name: str, build: Build) -> Judged:
    return judge(name, build)


def case(name: str, build: Build) -> Any:
    return pytest.param(name, build, marks=(slow,) if build in LONG else (), id=f"{name}-{build.__name__}")


@pytest.mark.parametrize(("name", "faulty"), [case(name, faulty) for name, faulty, _ in FAULTS])
def test_finds_its_fault(name: str, faulty: Build) -> None:
    judged = found(name, faulty)
    assert judged.names == [name], judged.result.reason
    assert judged.status is Status.FAIL


@pytest.mark.parametrize(("name", "healthy"), [case(name, twin) for name, _, twins in FAULTS for twin in twins])
@pytest.mark.parametrize("seed", range(3))
def test_is_silent_on_the_twin(name: str, healthy: Build, seed: int) -> None:
    judged = judge(name, healthy, seed)
    assert judged.findings == (), judged.result
    assert judged.status in {Status.PASS, Status.SKIPPED}, judged.result


@slow
def test_what_fresh_statistics_add() -> None:
    values = found(LAG, hardly_follows).values
    assert values["momentum"] == 0.001
    assert values["after"] > values["before"] + 0.1


def test_what_a_wider_copy_reaches() -> None:
    values = found(CAPACITY, two_wide).values
    assert values["loss_wider"] < 0.5 * values["loss"]


@slow
def test_what_more_samples_add() -> None:
    values = found(FEW, few_samples).values
    assert (values["total"], values["classes"]) == (50, 10)
    assert values["half"] < values["val"] < values["train"]


@slow
def test_which_classes_turn_into_one_another() -> None:
    values = found(LABELS, turned).values
    assert values["share"] > 0.2
    assert values["without"] > values["with_it"] + 0.03


@slow
def test_without_the_noise_every_seed_learns() -> None:
    values = found(STRONG, in_noise).values
    assert (values["control_failed"], values["repaired_seeds"]) == (3, 3)
    assert values["grade"] == "proved"


# -- a wider copy -----------------------------------------------------------------------------------------------------


def convolutional() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 6, 3, padding=1, groups=3),
        nn.GroupNorm(2, 6), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 5, bias=False),
        nn.LayerNorm(5), nn.ReLU(), nn.Linear(5, 10),
    )  # fmt: skip


def shapes(model: nn.Module) -> list[tuple[int, ...]]:
    return [tuple(p.shape) for name, p in model.named_parameters() if name.endswith("weight")]


def change_of(pipeline: Pipeline) -> Any:
    return wider.change(pipeline, next(iter(pipeline.train)), torch.device("cpu"))


def test_hidden_layers_are_widened_and_the_ends_stay() -> None:
    model = convolutional()
    wider.widen(model, ["0", "3", "8", "11"])
    w = wider.FACTOR
    assert shapes(model) == [
        (3 * w, 1, 3, 3),
        (3 * w,),
        (6 * w, 1, 3, 3),
        (6 * w,),
        (5 * w, 24 * w),
        (5 * w,),
        (10, 5 * w),
    ]
    assert model[8].bias is None
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


def test_the_change_widens_a_fresh_pipeline_and_gives_it_an_optimizer() -> None:
    pipeline, fresh = (small.digits_cnn(model=convolutional) for _ in range(2))
    before = shapes(pipeline.model)
    change = change_of(pipeline)
    assert shapes(pipeline.model) == before
    with change.apply(fresh):
        assert fresh.optimizer is not None
        held = {id(p) for group in fresh.optimizer.param_groups for p in group["params"]}
        assert held == {id(p) for p in fresh.model.parameters()}
        assert fresh.optimizer.param_groups[0]["lr"] == 1e-3
        assert shapes(fresh.model)[0][0] == 3 * wider.FACTOR


class WritesItsSizes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(256, 10)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(self.first(x).view(-1, 256))
        return out


class OfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.into, self.attention, self.head = nn.Linear(8, 4), nn.MultiheadAttention(4, 1), nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.into(x.flatten(1, 2))
        out: Tensor = self.head(self.attention(rows, rows, rows)[0].mean(1))
        return out


def own_step(model: nn.Module, batch: Any, optimizer: Any) -> Tensor:
    raise AssertionError("is not to be called")


@pytest.mark.parametrize(
    "build",
    [
        lambda: small.digits_cnn(model=WritesItsSizes),
        lambda: small.digits_cnn(model=lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10))),
        lambda: small.digits_cnn(model=convolutional, train_step=own_step),
        lambda: small.digits_cnn(model=OfAttention),
        lambda: small.digits_cnn(model=lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.Linear(128, 10))),
    ],
)
def test_a_model_that_cannot_be_widened_is_skipped(build: Build) -> None:
    pipeline = build()
    with pytest.raises(Skip):
        change_of(pipeline)


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_recurrent_layers_behind_embeddings_are_widened(kind: type[nn.RNNBase]) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(17, 3), nn.Linear(4, 10)
            self.rnn = kind(3, 2, num_layers=2, batch_first=True, bidirectional=True)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head(self.rnn(self.table(x.long().flatten(1)))[0].mean(1))
            return out

    pipeline, fresh = (small.digits_cnn(model=Recurrent, images=lambda x: x * 16) for _ in range(2))
    with change_of(pipeline).apply(fresh):
        w = wider.FACTOR
        assert shapes(fresh.model)[0] == (17, 3 * w)
        assert fresh.model.rnn.hidden_size == 2 * w  # type: ignore[union-attr]
        assert shapes(fresh.model)[-1] == (10, 4 * w)


# -- augmentation, switched off for a while ---------------------------------------------------------------------------


@pytest.mark.parametrize("measurement", ["plain_scan", "augmentation_swaps", "plain_subset", "association"])
def test_the_users_transform_is_put_back(measurement: str) -> None:
    ctx = context(shifted)
    dataset: Any = ctx.pipeline.train.dataset  # type: ignore[attr-defined]
    read: list[bool] = []

    def watched(image: Tensor) -> Tensor:
        read.append(True)
        return small.shifted(image)

    dataset.transform = watched
    getattr(ctx, measurement)()
    assert dataset.transform is watched
    assert read
    assert ctx.pipeline.val.dataset.transform is None  # type: ignore[union-attr]


def test_the_switch_goes_both_ways() -> None:
    pipeline = shifted()
    switchable = data_knobs.plain_loader(pipeline)
    assert switchable is not None
    loader, switch = switchable
    plain: Any = pipeline.val
    switch(True)
    once, again = (next(iter(loader))[0] for _ in range(2))
    assert torch.equal(once, again)
    assert pipeline.train.dataset.transform is plain.dataset.transform  # type: ignore[attr-defined]
    switch(False)
    assert pipeline.train.dataset.transform is small.shifted  # type: ignore[attr-defined]


def test_the_random_members_of_a_chain_are_left_out() -> None:
    from torchvision.transforms import Compose, Normalize, RandomHorizontalFlip

    chain = Compose([RandomHorizontalFlip(), Normalize(0.5, 0.5)])
    pipeline = small.digits_cnn(transform=chain, val=None)
    switchable = data_knobs.plain_loader(pipeline)
    assert switchable is not None
    dataset: Any = pipeline.train.dataset  # type: ignore[attr-defined]
    switchable[1](True)
    assert [type(member).__name__ for member in dataset.transform.transforms] == ["Normalize"]
    switchable[1](False)
    assert dataset.transform is chain
    assert len(chain.transforms) == 2


def test_an_error_while_reading_puts_the_transform_back() -> None:
    class Breaks(small.Images):
        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            if self.transform is None and index >= data_knobs.CHECKED:
                raise OSError("unreadable")
            return super().__getitem__(index)

    images, labels = (part[:64] for part in small.digits_tensors())
    dataset = Breaks(images, labels, small.shifted)
    pipeline = small.digits_cnn(
        train=DataLoader(dataset, 32, shuffle=True), val=DataLoader(Breaks(images[:20], labels[:20]), 20)
    )
    with pytest.raises(Exception, match="unreadable"):
        data_knobs.augmentation_swaps(pipeline, 0)
    assert dataset.transform is small.shifted
