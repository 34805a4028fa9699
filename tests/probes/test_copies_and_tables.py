"""Near copies, validation laid out otherwise, and what only a table or a sequence of real numbers shows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from probing import context, judge
from small_pipelines import cnn, digits_cnn, digits_tensors
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from diagnose.measure.near import near_copies
from diagnose.pipeline import Pipeline
from probes.data.target_leaked_into_input import _separating
from probes.records.data import Rows

Pair = tuple[Tensor, Tensor]


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pipeline(train: Pair, val: Pair, model: nn.Module, loss: nn.Module | None = None, **fields: Any) -> Pipeline:
    return Pipeline(
        model,
        DataLoader(TensorDataset(*train), 32, shuffle=fields.pop("shuffle", True)),
        DataLoader(TensorDataset(*val), 64),
        loss=loss or nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
        **fields,
    )


# -- copies -----------------------------------------------------------------------------------------------------------


def share_of_copies(x: Tensor, y: Tensor, *, table: bool = False, other: Rows | None = None) -> float:
    found = near_copies(Rows(x.flatten(1).float(), y), other, 0, table=table)
    assert found is not None
    return found.count / found.samples


@pytest.mark.parametrize("noise", [0.002, 0.01])
def test_noisy_copies_are_counted(noise: float) -> None:
    x, y = (part[:1000] for part in digits_tensors())
    assert share_of_copies(x, y) == 0
    again = torch.cat([x, x[:250] + noise * torch.randn(x[:250].shape, generator=drawn())])
    assert share_of_copies(again, torch.cat([y, y[:250]])) == pytest.approx(0.4, abs=0.03)


def test_rounded_rows_are_copies_across_splits() -> None:
    x = torch.rand(600, 6, generator=drawn())
    y = x.sum(1)
    assert share_of_copies(
        x[:400], y[:400], table=True, other=Rows(x[200:].round(decimals=2), y[200:])
    ) == pytest.approx(0.5, abs=0.02)
    assert share_of_copies(x[:400], y[:400], table=True, other=Rows(x[400:].round(decimals=2), y[400:])) == 0


def few_values() -> Pair:
    return torch.randint(0, 4, (1000, 6), generator=drawn()).float(), torch.zeros(1000)


def yes_or_no_and_one_number() -> Pair:
    flags = torch.randint(0, 2, (300, 5), generator=drawn()).float()
    return torch.cat([flags, torch.rand(300, 1, generator=drawn(1))], 1), torch.zeros(300)


def windows_of_a_walk() -> Pair:
    return torch.randn(1500, generator=drawn()).cumsum(0).unfold(0, 32, 1), torch.zeros(1469)


def classes_of_two_samples() -> Pair:
    y = torch.arange(400) % 200
    return torch.randn(200, 40, generator=drawn())[y] + 0.01 * torch.randn(400, 40, generator=drawn(1)), y


def views_of_each_thing() -> Pair:
    x, _ = classes_of_two_samples()
    return x, torch.rand(len(x), generator=drawn(2))


def squares() -> Pair:
    pictures = torch.zeros(800, 16, 16)
    for picture, (row, column) in zip(
        pictures, torch.randint(0, 12, (800, 2), generator=drawn()).tolist(), strict=True
    ):
        picture[row : row + 4, column : column + 4] = 1
    return pictures + 0.02 * torch.randn(pictures.shape, generator=drawn(1)), torch.zeros(800)


ALIKE: list[Callable[[], Pair]] = [
    few_values, yes_or_no_and_one_number, windows_of_a_walk, classes_of_two_samples, views_of_each_thing, squares,
]  # fmt: skip


@pytest.mark.parametrize("make", ALIKE)
@pytest.mark.parametrize("table", [False, True])
def test_what_is_alike_by_nature_is_no_copy(make: Callable[[], Pair], table: bool) -> None:
    assert share_of_copies(*make(), table=table) == 0


def copied(across: bool) -> Pipeline:
    x, y = digits_tensors()
    train, val = (x[:900], y[:900]), (x[900:1200], y[900:1200])
    noisy = x[:200] + 0.005 * torch.randn(x[:200].shape, generator=drawn())
    if across:
        val = (torch.cat([noisy, val[0]]), torch.cat([y[:200], val[1]]))
    else:
        train = (torch.cat([train[0], noisy]), torch.cat([train[1], y[:200]]))
    return pipeline(train, val, cnn())


def test_copies_within_and_across() -> None:
    within, across = partial(copied, False), partial(copied, True)
    assert judge("duplicate-samples", within).names == ["duplicate-samples"]
    assert judge("train-val-leakage", across).names == ["train-val-leakage"]
    assert judge("train-val-leakage", within).names == judge("duplicate-samples", across).names == []


# -- validation laid out otherwise ------------------------------------------------------------------------------------


def laid_out(change: Callable[[Tensor], Tensor]) -> Pipeline:
    x, y = digits_tensors()
    return pipeline((x[:900], y[:900]), (change(x[900:]), y[900:]), cnn())


def exchanged(columns: list[int]) -> Pipeline:
    x = torch.randn(700, 5, generator=drawn())
    y = (2 * x[:, :1] - x[:, 1:2] + 0.5 * x[:, 2:3]).contiguous()
    model = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 1))
    return pipeline((x[:500], y[:500]), (x[500:][:, columns], y[500:]), model, nn.MSELoss())


TURNED = [
    (partial(laid_out, lambda x: x.flip(-2)), "turned upside down"),
    (partial(laid_out, lambda x: x.transpose(-1, -2)), "read columns first"),
    (partial(exchanged, [1, 0, 2, 3, 4]), "given with columns 0 and 1 exchanged"),
]


@pytest.mark.parametrize(("build", "how"), TURNED)
def test_how_validation_was_turned_is_told(build: Callable[[], Pipeline], how: str) -> None:
    judged = judge("train-val-preprocessing-mismatch", build)
    assert judged.names == ["train-val-preprocessing-mismatch"]
    assert judged.values["how"] == how


def noisier() -> Pipeline:
    """Harder than training, but the right way up."""
    return laid_out(lambda x: x + 0.5 * torch.randn(x.shape, generator=drawn()))


@pytest.mark.parametrize("build", [partial(laid_out, lambda x: x), partial(exchanged, [0, 1, 2, 3, 4]), noisier])
def test_a_harder_validation_split_is_not_turned(build: Callable[[], Pipeline]) -> None:
    found = context(build).turned_validation()
    assert not found.how or found.best < found.as_given + 0.1


# -- statistics of tables and sequences -------------------------------------------------------------------------------


def recordings(change: Callable[[Tensor, Tensor, Tensor], Tensor], norm: bool = False) -> Pipeline:
    """(N, 20, 3) signals in raw units of hundreds; ``change(raw, mean, std)``."""
    raw = torch.randn(600, 20, 3, generator=drawn()) * torch.tensor([120.0, 300.0, 80.0]) + torch.tensor(
        [900.0, 50, -400]
    )
    y = (raw[:, :, 0].mean(1) > 900).long()
    x = change(raw, raw.mean((0, 1)), raw.std((0, 1)))
    first: list[nn.Module] = [nn.LayerNorm(3, eps=1e-12)] if norm else []
    model = nn.Sequential(*first, nn.Flatten(), nn.Linear(60, 16), nn.ReLU(), nn.Linear(16, 2))
    return pipeline((x[:450], y[:450]), (x[450:], y[450:]), model)


WRONG, TWICE = "wrong-normalisation-statistics", "inputs-normalised-twice"
SCALED: list[tuple[Callable[..., Tensor], list[str]]] = [
    (lambda raw, mean, std: (raw - std) / mean, [WRONG]),
    (lambda raw, mean, std: (raw / 1000 - mean) / std, [WRONG]),
    (lambda raw, mean, std: ((raw - mean) / std - mean) / std, [TWICE]),
    (lambda raw, mean, std: (raw - mean) / std, []),
    (lambda raw, mean, std: (raw - mean) / std * 1e-4, []),
    (lambda raw, mean, std: raw / 1000, []),
]


@pytest.mark.parametrize(("change", "names"), SCALED)
def test_statistics_of_sequences(change: Callable[..., Tensor], names: list[str]) -> None:
    assert judge(WRONG, partial(recordings, change)).names == names


def test_a_model_that_normalises_its_inputs_may_have_them_faint() -> None:
    assert judge(WRONG, partial(recordings, SCALED[1][0], norm=True)).names == []


def by_own_statistics(times: int) -> Pipeline:
    def change(x: Tensor) -> Tensor:
        mean, std = x.mean(), x.std()
        for _ in range(times):
            x = (x - mean) / std
        return x

    return digits_cnn(images=change)


def test_pictures_normalised_twice_by_their_own_statistics() -> None:
    assert judge(TWICE, partial(by_own_statistics, 2)).names == [TWICE]
    assert judge(TWICE, partial(by_own_statistics, 1)).names == []


@pytest.mark.parametrize("samples", [60, 100, 150])
def test_few_flowers_of_a_class_that_lie_close_together_are_no_leak(samples: int) -> None:
    """One class of iris lies apart in two of its features, in small draws by far more than its own few values do."""
    from sklearn.datasets import load_iris

    x, y = load_iris(return_X_y=True)
    for seed in range(60):
        some = np.random.default_rng(seed).permutation(len(y))[:samples]
        assert _separating(x[some], y[some]) is None
        leaked = np.column_stack([x[some], y[some] == 1])
        assert (_separating(leaked, y[some]) or ("nothing",))[0] == 4
