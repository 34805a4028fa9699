"""Evidence that once named a fault where there was none, or another one, beside the fault that it does show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from probing import judge
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset

from diagnose.failures import failure_name
from diagnose.judging import crash_finding
from diagnose.pipeline import Pipeline
from diagnose.user_code import UserCodeError
from probes.results import Severity, Status

Build = Callable[[], Pipeline]


def pipeline(model: nn.Module, data: Dataset[Any], held: Dataset[Any] | None = None, **fields: Any) -> Pipeline:
    loaders = {"train": DataLoader(data, 32, shuffle=True), "val": DataLoader(held, 64) if held is not None else None}
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return Pipeline(model, optimizer=optimizer, **(loaders | {"loss": nn.CrossEntropyLoss()} | fields))


def table(x: Tensor, y: Tensor, cut: int, classes: int) -> Pipeline:
    model = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 16), nn.ReLU(), nn.Linear(16, classes))
    return pipeline(model, TensorDataset(x[:cut], y[:cut]), TensorDataset(x[cut:], y[cut:]))


# -- neighbours -------------------------------------------------------------------------------------------------------


def waves() -> Pipeline:
    """Shapes at any phase: the nearest curves are near by phase, and of two shapes."""
    g = torch.Generator().manual_seed(0)
    y = torch.randint(0, 4, (2000,), generator=g)
    turns = 2 + 3 * torch.rand(2000, 1, generator=g)
    t = torch.arange(64) / 64 * turns + torch.rand(2000, 1, generator=g)
    saw = 2 * (t % 1) - 1
    shapes = torch.stack([(2 * torch.pi * t).sin(), (2 * torch.pi * t).sin().sign(), saw, 2 * saw.abs() - 1], 1)
    x = shapes[torch.arange(2000), y] * (0.7 + 0.6 * torch.rand(2000, 1, generator=g))
    return table(x + 0.1 * torch.randn(2000, 64, generator=g), y, 1900, 4)


def easy_ones_first(slipped: bool = False) -> Pipeline:
    """A thousand rows of two classes that are easily told, in their order, then as many of six that are not."""
    g = torch.Generator().manual_seed(0)
    y = torch.cat([torch.arange(2).repeat_interleave(500), 2 + torch.arange(6).repeat_interleave(250)])
    x = torch.randn(2500, 8, generator=g)
    x[:, 0] += torch.where(y < 2, 8.0 * y + 10, 0.0)
    if slipped:
        order = torch.cat([torch.randperm(1000, generator=g), torch.arange(1000, 2500)])
        x, y = x[order], y[order].roll(1)
    return table(x, y, 2400, 8)


def returns() -> Pipeline:
    """Will the next value be above zero? The answers for the windows before stand in the window itself."""
    series = torch.randn(1020, generator=torch.Generator().manual_seed(3))
    return table(series.unfold(0, 20, 1)[:1000], (series[20:1020] > 0).long(), 900, 2)


def one_class_is_new() -> Pipeline:
    """Split off the end of a sorted file."""
    g = torch.Generator().manual_seed(0)
    y = torch.arange(4).repeat_interleave(200)
    return table(4 * F.one_hot(y, 4).float() + 0.3 * torch.randn(800, 4, generator=g), y, 600, 4)


def classes_exchanged() -> Pipeline:
    g = torch.Generator().manual_seed(0)
    y = torch.randint(0, 4, (800,), generator=g)
    x = 4 * F.one_hot(y, 4).float() + 0.3 * torch.randn(800, 4, generator=g)
    y[600:] = (y[600:] + 1) % 4
    return table(x, y, 600, 4)


def oversampled(columns: int = 6, levels: int = 0) -> Pipeline:
    """Rows drawn with replacement before they are split; with ``levels``, equal rows are no copies."""
    g = torch.Generator().manual_seed(0)
    x = torch.randint(0, levels, (1200, columns), generator=g).float() if levels else torch.randn(1200, 6, generator=g)
    if not levels:
        x = x[torch.randint(0, 500, (1200,), generator=g)]
    return table(x, (x[:, 0] > x[:, 1]).long(), 1000, 2)


def few_levels() -> Pipeline:
    return oversampled(3, 6)


# -- outputs ----------------------------------------------------------------------------------------------------------


class Towers(nn.Module):
    """One embedding for each of two pictures."""

    def __init__(self, forgets: bool = False) -> None:
        super().__init__()
        self.tower, self.forgets = nn.Linear(6, 4), forgets

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return self.tower(a), self.tower(a if self.forgets else b)


def pairs(forgets: bool = False) -> Pipeline:
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 200, 6, generator=g)

    def compute_loss(model: nn.Module, batch: Any) -> Tensor:
        return F.cosine_embedding_loss(*model(batch[0], batch[1]), batch[2])

    data = TensorDataset(a, b, torch.where(torch.arange(200) % 2 == 0, 1.0, -1.0))
    return pipeline(Towers(forgets), data, loss=None, compute_loss=compute_loss, task="custom")


class Standardised(nn.Module):
    """Divides each sample by its deviation, which is zero for a flat one."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head((x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True))
        return out


def flat_samples() -> Pipeline:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(200, 6, generator=g)
    y = (x[:, 0] > 0).long()
    x[::5] = 0.0
    return pipeline(Standardised(), TensorDataset(x, y))


def tags(several: bool, softmax: bool) -> Pipeline:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(400, 6, generator=g)
    y = (x[:, :4] > 0.3).float() if several else F.one_hot(x[:, :4].argmax(1), 4).float()
    last = nn.Softmax(dim=1) if softmax else nn.Sigmoid()
    return pipeline(nn.Sequential(nn.Linear(6, 4), last), TensorDataset(x, y), loss=nn.BCELoss(), task="multilabel")


def softmax_over_tags() -> Pipeline:
    return tags(several=True, softmax=True)


def sigmoid_of_tags() -> Pipeline:
    return tags(several=True, softmax=False)


def softmax_over_classes() -> Pipeline:
    return tags(several=False, softmax=True)


def forecast(overlaps: bool, whole: bool = False) -> Pipeline:
    """Windows of 12 values, and the 3 that follow, or (``overlaps``) the last 3 of the window, or all of it."""
    series = (torch.arange(700) / 7).sin() + 0.1 * torch.randn(700, generator=torch.Generator().manual_seed(0))
    windows = series.unfold(0, 16, 1)
    x = windows[:, :12]
    y = x if whole else windows[:, 9:12] if overlaps else windows[:, 12:15]
    model = nn.Sequential(nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, y.shape[1]))
    return pipeline(model, TensorDataset(x, y.clone()), loss=nn.MSELoss())


def answer_in_the_window() -> Pipeline:
    return forecast(overlaps=True)


def answer_behind_the_window() -> Pipeline:
    return forecast(overlaps=False)


def input_given_back() -> Pipeline:
    return forecast(overlaps=False, whole=True)


def decoder_is_taught() -> Pipeline:
    """The target goes into the model as well, for its decoder."""
    made = forecast(overlaps=False)
    x, y = made.train.dataset.tensors  # type: ignore[attr-defined]
    return pipeline(Taught(), TensorDataset(x, y, y), loss=nn.MSELoss())


class Taught(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(12, 3), nn.GRU(1, 3, batch_first=True)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        before = F.pad(y[:, :-1], (1, 0)).unsqueeze(-1)
        out: Tensor = self.decoder(before, self.encoder(x).unsqueeze(0))[0][:, :, 0]
        return out


def flat_later() -> Pipeline:
    """The first batch is fine, the second holds one flat sample."""
    x = torch.randn(128, 6, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).long()
    x[40] = 0.0
    batches = list(zip(x.split(32), y.split(32), strict=True))
    return pipeline(Standardised(), TensorDataset(x, y), train=batches)


def explodes() -> Pipeline:
    """Finite as built; the first update is what makes the loss infinite."""
    made = flat_later()
    made.model = nn.Linear(6, 2)
    made.optimizer = torch.optim.SGD(made.model.parameters(), lr=3e38)
    return made


# -- padding ----------------------------------------------------------------------------------------------------------


class Reader(nn.Module):
    """Reads padded tokens with or without their lengths."""

    def __init__(self, packed: bool) -> None:
        super().__init__()
        self.words, self.gru, self.head = nn.Embedding(50, 8, padding_idx=0), nn.GRU(8, 8), nn.Linear(8, 3)
        self.packed = packed

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        x: Any = self.words(tokens).transpose(0, 1)
        if self.packed:
            x = nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
        out: Tensor = self.head(self.gru(x)[1][-1])
        return out


def padded(packed: bool) -> Pipeline:
    g = torch.Generator().manual_seed(0)
    lengths, y = torch.randint(3, 11, (240,), generator=g), torch.randint(0, 3, (240,), generator=g)
    tokens = torch.randint(1, 50, (240, 10), generator=g)
    tokens[:, 0] = 40 + y
    tokens *= torch.arange(10) < lengths.unsqueeze(1)
    return pipeline(Reader(packed), TensorDataset(tokens, lengths, y), num_classes=3)


def lengths_ignored() -> Pipeline:
    return padded(packed=False)


def lengths_used() -> Pipeline:
    return padded(packed=True)


def easy_and_slipped() -> Pipeline:
    return easy_ones_first(slipped=True)


def second_forgotten() -> Pipeline:
    return pairs(forgets=True)


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("noisy-labels", waves),
        ("noisy-labels", easy_ones_first),
        ("noisy-labels", returns),
        ("label-map-differs-in-validation", one_class_is_new),
        ("ignored-input", pairs),
        ("nondeterministic-eval", flat_samples),
        ("padding-affects-output", lengths_used),
        ("train-val-leakage", few_levels),
        ("activation-on-logits", sigmoid_of_tags),
        ("activation-on-logits", softmax_over_classes),
        ("target-leaked-into-input", answer_behind_the_window),
        ("target-leaked-into-input", input_given_back),
        ("target-leaked-into-input", decoder_is_taught),
    ],
)
def test_is_silent(name: str, build: Build) -> None:
    judged = judge(name, build)
    assert judged.findings == (), judged.result
    assert judged.status in {Status.PASS, Status.SKIPPED}


@pytest.mark.parametrize(
    ("name", "build", "told"),
    [
        ("noisy-labels", easy_and_slipped, "labels-unrelated-to-inputs"),
        ("label-map-differs-in-validation", classes_exchanged, "label-map-differs-in-validation"),
        ("ignored-input", second_forgotten, "ignored-input"),
        ("padding-affects-output", lengths_ignored, "padding-affects-output"),
        ("train-val-leakage", oversampled, "train-val-leakage"),
        ("activation-on-logits", softmax_over_tags, "activation-on-logits"),
        ("target-leaked-into-input", answer_in_the_window, "target-leaked-into-input"),
    ],
)
def test_is_told(name: str, build: Build, told: str) -> None:
    judged = judge(name, build)
    assert judged.names == [told], judged.result
    assert judged.findings[0].severity is not Severity.NOTE


@pytest.mark.parametrize("text", ["Torch not compiled with CUDA enabled", "Found no NVIDIA driver on your system."])
def test_a_device_that_is_not_there_is_a_mismatch_in_forward_only(text: str) -> None:
    assert failure_name(RuntimeError(text), "forward") == "device-mismatch"
    assert failure_name(AssertionError(text), "loss") == "device-mismatch"
    assert failure_name(RuntimeError(text), "building the model") == "user-code-error"
    told = crash_finding(UserCodeError("building the model", RuntimeError(text))).message
    assert "this machine has no such device" in told


def short_vocabulary() -> Pipeline:
    made = padded(packed=True)
    made.model.words = nn.Embedding(30, 8, padding_idx=0)  # type: ignore[assignment]
    return made


def test_the_rows_that_an_embedding_lacks_are_told() -> None:
    (finding,) = judge("user-code-error", short_vocabulary).findings
    assert "rows 0 to 49 of an embedding that has 0 to 29" in finding.message


def test_a_later_batch_that_is_not_finite_is_told_with_its_sample() -> None:
    judged = judge("nonfinite-loss", flat_later)
    assert judged.names == ["nonfinite-loss"], judged.result
    assert judged.values["number"] == 2
    assert "1 of its 32 samples are not finite, the first is sample 8" in judged.findings[0].message


def test_what_an_update_brings_about_is_not_in_the_data() -> None:
    judged = judge("nonfinite-loss", explodes)
    assert judged.findings == ()
    assert judged.status is Status.SKIPPED
