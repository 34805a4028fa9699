"""Causes that hide behind their consequences: an axis mixed up, a choice without a gradient, silent layers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from probing import context, judge
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from diagnose.pipeline import Pipeline


def sequences(model: nn.Module, loss: Any = None, **fields: Any) -> Pipeline:
    """Batches of 24 from 96 sequences of 7 steps and 5 features, of two classes."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(96, 7, 5, generator=g)
    y = (x[:, :, 0].sum(1) > 0).long()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    data = DataLoader(TensorDataset(x, y), 24, shuffle=True)
    return Pipeline(model, data, loss=loss or nn.CrossEntropyLoss(), optimizer=optimizer, **fields)


class FirstToken(nn.Module):
    """Attention, read at a token that is the same for every sample."""

    def __init__(self, batch_first: bool, turn: bool = False) -> None:
        super().__init__()
        self.enter, self.leave, self.turn = nn.Linear(5, 8), nn.Linear(8, 2), turn
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.attend = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=batch_first)

    def forward(self, x: Tensor) -> Any:
        x = torch.cat([self.token.expand(len(x), 1, 8), self.enter(x)], 1)
        x = self.attend(x.transpose(0, 1)).transpose(0, 1) if self.turn else self.attend(x)
        return self.leave(x[:, 0])


def test_time_on_the_batch_axis_is_told_though_nothing_gets_through() -> None:
    judged = judge("batch-mixing", lambda: sequences(FirstToken(batch_first=False)))
    assert judged.names == ["batch-mixing"]
    assert (judged.values["layer"], judged.values["type"]) == ("attend.self_attn", "MultiheadAttention")
    assert judged.findings[0].where


@pytest.mark.parametrize("model", [partial(FirstToken, True), partial(FirstToken, False, turn=True)])
def test_the_right_axis_is_silent(model: Callable[[], nn.Module]) -> None:
    assert judge("batch-mixing", lambda: sequences(model())).names == []
    assert context(lambda: sequences(model())).inspection().over_batch == ()


class Codebook(nn.Module):
    """The nearest of a few vectors; ``through``: they are fixed, and the gradient is carried across."""

    def __init__(self, through: bool) -> None:
        super().__init__()
        self.encode, self.decode, self.through = nn.Linear(35, 4), nn.Linear(4, 2), through
        self.book = nn.Parameter(4 * torch.randn(6, 4), requires_grad=not through)

    def forward(self, x: Tensor) -> Any:
        code = self.encode(x.flatten(1))
        found = self.book[torch.cdist(code, self.book).argmin(1)]
        return self.decode(code + (found - code).detach() if self.through else found)


def test_a_choice_by_comparison_cuts_the_graph() -> None:
    assert judge("graph-cut", lambda: sequences(Codebook(through=False))).names == ["graph-cut"]
    assert judge("graph-cut", lambda: sequences(Codebook(through=True))).names == []


class OverTime(nn.Module):
    """Sixteen channels over five places; the ReLU is silent where ``bias`` is far below 0."""

    def __init__(self, bias: float) -> None:
        super().__init__()
        self.time, self.leave = nn.Conv1d(5, 16, 3), nn.Linear(16, 2)
        nn.init.constant_(self.time.bias, bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Any:
        return self.leave(F.relu(self.time(x.transpose(1, 2))).mean(2))


def test_units_of_a_convolution_over_few_places_are_its_channels() -> None:
    judged = judge("dead-relu", lambda: sequences(OverTime(-20.0)))
    assert judged.names == ["dead-relu"]
    assert judged.values["units"] == 16
    assert judge("dead-relu", lambda: sequences(OverTime(0.0))).names == []


class Tiny(nn.Module):
    def __init__(self, std: float) -> None:
        super().__init__()
        layers = [m for _ in range(4) for m in (nn.Linear(35, 35), nn.ReLU())]
        self.body = nn.Sequential(nn.Flatten(), *layers, nn.Linear(35, 2))
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=std)

    def forward(self, x: Tensor) -> Any:
        return self.body(x)


def test_weights_so_small_that_nothing_at_all_is_left() -> None:
    assert judge("vanishing-initialisation", lambda: sequences(Tiny(1e-13))).names == ["vanishing-initialisation"]
    assert judge("vanishing-initialisation", lambda: sequences(Tiny(0.2))).names == []


def maps(loss: Callable[[Tensor, Tensor], Tensor]) -> Pipeline:
    """Segmentation with a void of 255."""
    g = torch.Generator().manual_seed(1)
    x = torch.randn(40, 2, 8, 8, generator=g)
    masks = (x[:, 0] > 0).long()
    masks[:, 0] = 255
    model = nn.Conv2d(2, 2, 3, padding=1)
    data = DataLoader(TensorDataset(x, masks), 10)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    return Pipeline(model, data, loss=loss, optimizer=optimizer, task="segmentation", class_names=("sky", "sea"))


def overlap(logits: Tensor, masks: Tensor) -> Tensor:
    known = (masks < 2).unsqueeze(1)
    wanted = F.one_hot(masks.clamp_max(1), 2).permute(0, 3, 1, 2) * known
    shares = logits.softmax(1) * known
    return (2 * (shares * wanted).sum((0, 2, 3)) / (shares + wanted).sum((0, 2, 3))).mean()


def background_ignored(logits: Tensor, masks: Tensor) -> Tensor:
    return F.cross_entropy(logits, torch.where(masks == 255, 0, masks), ignore_index=0)


def test_an_overlap_is_to_be_raised() -> None:
    assert judge("loss-sign-flipped", lambda: maps(overlap)).names == ["loss-sign-flipped"]
    assert judge("loss-sign-flipped", lambda: maps(lambda out, y: 1 - overlap(out, y))).names == []


def test_labels_that_the_loss_renames_are_not_out_of_range() -> None:
    build = partial(maps, background_ignored)
    assert judge("labels-out-of-range", build).names == []
    assert judge("ignore-index-hits-class", build).names == ["ignore-index-hits-class"]
    plain = partial(maps, nn.CrossEntropyLoss())
    assert judge("labels-out-of-range", plain).names == ["labels-out-of-range"]


class Half(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(35, 2).to(torch.bfloat16)

    def forward(self, x: Tensor) -> Any:
        return self.body(x.flatten(1).to(torch.bfloat16)).float()


def test_casts_for_a_precision_of_its_own_are_no_mismatch() -> None:
    judged = judge("fp16-underflow", lambda: sequences(Half()))
    assert judged.names == []


class Constant(nn.Module):
    """Equal weights, and the biases of torch's own initialisation."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(35, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh())
        self.leave = nn.Linear(16, 2)
        for layer in [m for m in self.modules() if isinstance(m, nn.Linear)][:layers]:
            nn.init.constant_(layer.weight, 0.05)
        nn.init.zeros_(self.leave.weight)

    def forward(self, x: Tensor) -> Any:
        return self.leave(self.body(x))


def test_units_that_only_their_biases_tell_apart() -> None:
    assert judge("symmetric-initialisation", lambda: sequences(Constant(2))).names == ["symmetric-initialisation"]
    assert judge("symmetric-initialisation", lambda: sequences(Constant(1))).names == []
    assert judge("symmetric-initialisation", lambda: sequences(Constant(0))).names == []
