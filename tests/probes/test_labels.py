"""Labels that do not belong to their inputs, targets that leak, and what padding does to text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import small_pipelines as small
import torch
from probing import judge
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from diagnose.pipeline import Pipeline
from probes.results import Severity, Status

Build = Callable[[], Pipeline]


# -- labels of pictures -----------------------------------------------------------------------------------------------


def slipped() -> Pipeline:
    """Item i has the label of item i - 1, as when one line of a file was left out."""
    return small.digits_cnn(labels=lambda y: y.roll(1))


def noisy(share: float) -> Pipeline:
    g = torch.Generator().manual_seed(0)

    def relabelled(y: Tensor) -> Tensor:
        wrong = torch.rand(len(y), generator=g) < share
        return torch.where(wrong, torch.randint(0, 10, y.shape, generator=g), y)

    return small.digits_cnn(labels=relabelled, n=1024)


def half_noisy() -> Pipeline:
    return noisy(0.5)


def quarter_noisy() -> Pipeline:
    return noisy(0.25)


def hard_but_clean() -> Pipeline:
    """Four classes that lie half over one another: neighbours disagree at the borders, not everywhere."""
    g = torch.Generator().manual_seed(0)
    y = torch.randint(0, 4, (900,), generator=g)
    centres = 1.5 * torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    return table(centres[y] + 0.6 * torch.randn(900, 2, generator=g), y, 4)


def one_class_under_two_labels() -> Pipeline:
    """3s and 8s, filed under either label at random."""
    g = torch.Generator().manual_seed(0)

    def mixed(y: Tensor) -> Tensor:
        drawn = torch.where(torch.rand(len(y), generator=g) < 0.5, 3, 8)
        return torch.where((y == 3) | (y == 8), drawn, y)

    return small.digits_cnn(labels=mixed, n=1024)


def another_order_in_val() -> Pipeline:
    x, y = small.digits_tensors()
    val = small.Images(x[1200:1456], (y[1200:1456] + 3) % 10)
    return small.digits_cnn(val=DataLoader(val, batch_size=64))


def zero_left_out() -> Pipeline:
    return small.digits_cnn(loss=nn.CrossEntropyLoss(ignore_index=0))


def unlabelled_left_out() -> Pipeline:
    def hidden(y: Tensor) -> Tensor:
        return torch.where(torch.arange(len(y)) % 5 == 0, -1, y)

    return small.digits_cnn(labels=hidden, loss=nn.CrossEntropyLoss(ignore_index=-1))


# -- tables -----------------------------------------------------------------------------------------------------------


def table(x: Tensor, y: Tensor, outputs: int, loss: Any = None) -> Pipeline:
    model = nn.Sequential(nn.Linear(x.shape[1], 16), nn.ReLU(), nn.Linear(16, outputs))
    cut = len(x) * 3 // 4
    return Pipeline(
        model,
        DataLoader(TensorDataset(x[:cut], y[:cut]), batch_size=32, shuffle=True),
        DataLoader(TensorDataset(x[cut:], y[cut:]), batch_size=64),
        loss=loss or nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-3),
    )


def features() -> tuple[Tensor, Tensor]:
    """Six columns, and a class that three of them tell with some noise."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(400, 6, generator=g)
    return x, (x[:, 0] + x[:, 1] - x[:, 2] + 0.5 * torch.randn(400, generator=g) > 0).long()


def with_its_label() -> Pipeline:
    x, y = features()
    return table(torch.cat([x, y.unsqueeze(1).float()], 1), y, 2)


def without_its_label() -> Pipeline:
    return table(*features(), 2)


def price(leaks: bool) -> Pipeline:
    """A target that one column holds in another currency."""
    x, _ = features()
    g = torch.Generator().manual_seed(1)
    y = x[:, :1] - 2 * x[:, 1:2] + torch.randn(400, 1, generator=g)
    return table(torch.cat([x, 0.9 * y + 3], 1) if leaks else x, y, 1, nn.MSELoss())


def leaking_price() -> Pipeline:
    return price(leaks=True)


def plain_price() -> Pipeline:
    return price(leaks=False)


def iris() -> Pipeline:
    from sklearn.datasets import load_iris

    data = load_iris()
    order = torch.randperm(150, generator=torch.Generator().manual_seed(0))
    return table(torch.tensor(data.data, dtype=torch.float32)[order], torch.tensor(data.target)[order], 3)


# -- text -------------------------------------------------------------------------------------------------------------


class Bag(nn.Module):
    """The mean of the embeddings, over the mask or over everything."""

    def __init__(self, masked: bool, padding_idx: int | None = None) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 16, padding_idx=padding_idx)
        self.head = nn.Linear(16, 3)
        self.masked = masked

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.embedding(tokens)
        if self.masked and mask is not None:
            x = (x * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
        else:
            x = x.mean(1)
        out: Tensor = self.head(x)
        return out


def sentences(padded: bool, shortest: int = 1, longest: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    """(tokens, mask, label): with 0 behind the end, or whole rows of tokens from 1."""
    g = torch.Generator().manual_seed(0)
    y = torch.randint(0, 3, (240,), generator=g)
    tokens = torch.randint(shortest, 50, (240, longest), generator=g)
    tokens[:, 0] = 40 + y
    lengths = torch.randint(4, longest, (240,), generator=g) if padded else torch.full((240,), longest)
    mask = (torch.arange(longest) < lengths.unsqueeze(1)).float()
    return tokens * mask.long(), mask, y


def reading(model: nn.Module, *columns: Tensor) -> Pipeline:
    return Pipeline(
        model,
        DataLoader(TensorDataset(*(c[:180] for c in columns)), batch_size=30, shuffle=True),
        DataLoader(TensorDataset(*(c[180:] for c in columns)), batch_size=30),
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
        num_classes=3,
    )


def mask_ignored() -> Pipeline:
    return reading(Bag(masked=False), *sentences(padded=True))


def mask_used() -> Pipeline:
    return reading(Bag(masked=True), *sentences(padded=True))


class Named(nn.Module):
    """Takes its inputs by name, as models of transformers do."""

    def __init__(self, masked: bool) -> None:
        super().__init__()
        self.bag = Bag(masked)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        out: Tensor = self.bag(input_ids, attention_mask)
        return out


def named(masked: bool) -> Pipeline:
    tokens, mask, y = sentences(padded=True)
    made = reading(Named(masked), tokens, y)
    rows = [{"input_ids": a, "attention_mask": b.long(), "labels": c} for a, b, c in zip(tokens, mask, y, strict=True)]
    made.train, made.val = DataLoader(rows[:180], 30, shuffle=True), DataLoader(rows[180:], 30)  # type: ignore[arg-type]
    return made


def named_mask_ignored() -> Pipeline:
    return named(masked=False)


def named_mask_used() -> Pipeline:
    return named(masked=True)


def ragged(model: nn.Module) -> Pipeline:
    """Each batch is as long as its longest row; there is no mask."""
    tokens, _, y = sentences(padded=True)
    rows = [(t[t != 0], label) for t, label in zip(tokens, y.tolist(), strict=True)]

    def collate(batch: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
        return nn.utils.rnn.pad_sequence([t for t, _ in batch], batch_first=True), torch.tensor([v for _, v in batch])

    made = reading(model, tokens, y)
    made.train = DataLoader(rows[:180], batch_size=6, shuffle=True, collate_fn=collate)  # type: ignore[arg-type]
    return made


def ragged_and_averaged() -> Pipeline:
    return ragged(Bag(masked=False, padding_idx=0))


def fixed_length_without_a_mask() -> Pipeline:
    tokens, _, y = sentences(padded=True)
    return reading(Bag(masked=False, padding_idx=0), tokens, y)


def never_padded() -> Pipeline:
    tokens, _, y = sentences(padded=False)
    return reading(Bag(masked=False), tokens, y)


def zero_is_a_word() -> Pipeline:
    tokens, _, y = sentences(padded=False, shortest=0)
    tokens[:, 5] *= torch.rand(240, generator=torch.Generator().manual_seed(1)) < 0.7
    return reading(Bag(masked=False, padding_idx=0), tokens, y)


FAULTS: list[tuple[str, Build, tuple[Build, ...]]] = [
    ("noisy-labels", half_noisy, (small.plain_cnn, hard_but_clean, iris, small.digits_augmented)),
    ("noisy-labels", quarter_noisy, (small.tabular_mlp, without_its_label)),
    ("classes-overlap", one_class_under_two_labels, (small.plain_cnn, iris, hard_but_clean)),
    ("label-map-differs-in-validation", another_order_in_val, (small.plain_cnn, iris, small.digits_augmented)),
    ("target-leaked-into-input", with_its_label, (without_its_label, iris, small.plain_cnn, small.tabular_mlp)),
    ("target-leaked-into-input", leaking_price, (plain_price, small.regression)),
    ("ignore-index-hits-class", zero_left_out, (small.plain_cnn, unlabelled_left_out, small.segmentation)),
    ("padding-idx-is-a-real-token", zero_is_a_word, (small.text, fixed_length_without_a_mask, never_padded)),
    ("padding-affects-output", mask_ignored, (mask_used, small.text, never_padded, small.plain_cnn)),
    ("padding-affects-output", named_mask_ignored, (named_mask_used,)),
    ("padding-affects-output", ragged_and_averaged, (small.text, small.language_model)),
]
PAIRS = [(name, twin) for name, _, twins in FAULTS for twin in twins]


@pytest.mark.parametrize(("name", "faulty"), [(n, f) for n, f, _ in FAULTS], ids=lambda x: getattr(x, "__name__", x))
def test_finds_its_fault(name: str, faulty: Build) -> None:
    judged = judge(name, faulty)
    assert judged.names == [name], judged.result.reason
    assert judged.status is Status.FAIL


@pytest.mark.parametrize(("name", "healthy"), PAIRS, ids=lambda x: getattr(x, "__name__", x))
@pytest.mark.parametrize("seed", range(3))
def test_is_silent_on_the_twin(name: str, healthy: Build, seed: int) -> None:
    judged = judge(name, healthy, seed)
    assert judged.findings == (), judged.result
    assert judged.status in {Status.PASS, Status.SKIPPED}, judged.result


def test_labels_that_slipped_are_told_by_the_look_at_noise() -> None:
    judged = judge("noisy-labels", slipped)
    assert judged.names[:1] == ["labels-unrelated-to-inputs"], judged.result
    assert abs(judged.values["shift"]) == 1
    assert judged.values["score"] > judged.values["plain"] + 0.5
    assert judged.values["grade"] == "proved"


def test_the_amount_of_noise_is_told() -> None:
    half, quarter = (judge("noisy-labels", build).values for build in (half_noisy, quarter_noisy))
    assert 0.3 < half.get("share", 1 - half.get("typical", 0.0)) < 0.8
    assert 0.12 < quarter["share"] < 0.35


def test_the_two_classes_are_named() -> None:
    values = judge("classes-overlap", one_class_under_two_labels).values
    assert (values["first"], values["second"]) == (3, 8)
    assert values["known"] > 0.85


def test_the_other_order_is_told() -> None:
    values = judge("label-map-differs-in-validation", another_order_in_val).values
    assert values["count"] == 10
    assert values["plain"] < 0.2
    assert values["renamed"] > 0.8


def test_the_feature_is_named() -> None:
    for build, feature in ((with_its_label, 6), (leaking_price, 6)):
        values = judge("target-leaked-into-input", build).values
        assert (values["feature"], values["features"]) == (feature, 7)


def test_the_class_that_the_loss_leaves_out_is_named() -> None:
    values = judge("ignore-index-hits-class", zero_left_out).values
    assert (values["ignored"], values["classes"]) == (0, 10)
    assert values["share"] == pytest.approx(0.1, abs=0.02)


def test_the_token_is_named() -> None:
    values = judge("padding-idx-is-a-real-token", zero_is_a_word).values
    assert (values["index"], values["rows"]) == (0, 30)


@pytest.mark.parametrize("seed", range(3))
def test_padding_of_a_fixed_length_is_a_note_at_most(seed: int) -> None:
    judged = judge("padding-affects-output", fixed_length_without_a_mask, seed)
    assert judged.status is Status.PASS
    assert [finding.severity for finding in judged.findings] in ([], [Severity.NOTE])
