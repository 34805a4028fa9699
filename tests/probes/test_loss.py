"""Probes of the loss: each fault is a healthy pipeline plus one change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from probing import judge
from small_pipelines import cnn, digits_cnn, language_model, regression, segmentation
from torch import Tensor, nn
from torch.nn import functional as F

from diagnose.pipeline import Pipeline
from probes.results import Severity, Status


def found(name: str, build: Callable[[], Pipeline]) -> Any:
    """The first finding of the probe that bears its own name."""
    judged = judge(name, build)
    assert judged.names[:1] == [name], judged.result
    return judged.findings[0]


def silent(name: str, build: Callable[[], Pipeline]) -> str:
    judged = judge(name, build)
    assert not judged.findings, judged.findings
    assert judged.status in {Status.PASS, Status.SKIPPED}, judged.result.reason
    return judged.result.reason


def test_loss_not_scalar() -> None:
    assert found("loss-not-scalar", lambda: digits_cnn(loss=nn.CrossEntropyLoss(reduction="none"))).values["what"] == (
        "a tensor of shape (32,)"
    )
    assert "NoneType" in found("loss-not-scalar", lambda: digits_cnn(loss=lambda out, y: None)).message
    silent("loss-not-scalar", digits_cnn)
    silent("loss-not-scalar", lambda: digits_cnn(loss=lambda out, y: F.cross_entropy(out, y).reshape(1)))


def test_nonfinite_loss() -> None:
    found("nonfinite-loss", lambda: digits_cnn(loss=lambda out, y: F.cross_entropy(out, y) * float("nan")))
    found("nonfinite-loss", lambda: digits_cnn(loss=lambda out, y: torch.log(F.relu(-out.exp())).mean()))
    silent("nonfinite-loss", digits_cnn)


def test_loss_detached() -> None:
    assert found("loss-detached", lambda: digits_cnn(loss=lambda out, y: F.cross_entropy(out, y).detach())).where
    found("loss-detached", lambda: digits_cnn(loss=lambda out, y: F.cross_entropy(out, y).item()))
    silent("loss-detached", digits_cnn)


def test_a_cut_inside_the_model_is_not_the_loss() -> None:
    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = cnn()

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.body(x).detach()
            return out

    assert "graph-cut" in silent("loss-detached", lambda: digits_cnn(model=Cut))


class Scaled(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.body, self.factor = cnn(), factor

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x) * self.factor
        return out


def test_initial_loss_off() -> None:
    finding = found("initial-loss-off", lambda: digits_cnn(model=lambda: Scaled(300.0)))
    assert finding.severity is Severity.WARNING
    assert finding.values["loss"] > 3 * finding.values["expected"]
    assert "ln 10 = 2.30" in silent("initial-loss-off", digits_cnn)
    silent("initial-loss-off", language_model)
    silent("initial-loss-off", lambda: digits_cnn(model=lambda: Scaled(300.0), intents=("pretrained",)))


def summed(optimizer: Callable[[nn.Module], Any], **fields: Any) -> Callable[[], Pipeline]:
    return lambda: digits_cnn(loss=nn.CrossEntropyLoss(reduction="sum"), optimizer=optimizer, **fields)


def sgd(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), lr=0.01)


def test_loss_summed() -> None:
    finding = found("loss-summed", summed(sgd))
    assert (finding.severity, finding.values["terms"]) == (Severity.WARNING, 32)
    assert found("loss-summed", summed(lambda net: torch.optim.Adam(net.parameters()))).severity is Severity.NOTE
    by_hand = lambda out, y: -F.log_softmax(out, 1)[torch.arange(len(y)), y].sum()  # noqa: E731
    found("loss-summed", lambda: digits_cnn(loss=by_hand, optimizer=sgd))
    for build in (digits_cnn, regression, segmentation, language_model):
        silent("loss-summed", build)
    weighted = nn.CrossEntropyLoss(weight=torch.rand(10) + 0.5, label_smoothing=0.1)
    silent("loss-summed", lambda: digits_cnn(loss=weighted, optimizer=sgd))


def test_nll_on_probabilities() -> None:
    softmax = lambda: nn.Sequential(cnn(), nn.Softmax(dim=1))  # noqa: E731
    finding = found("nll-on-probabilities", lambda: digits_cnn(model=softmax, loss=nn.NLLLoss()))
    assert finding.values["kind"] == "probabilities"
    assert "nn.Softmax" in finding.where[0].text
    assert found("nll-on-probabilities", lambda: digits_cnn(loss=nn.NLLLoss())).values["kind"] == "unnormalised scores"
    log_softmax = lambda: nn.Sequential(cnn(), nn.LogSoftmax(dim=1))  # noqa: E731
    silent("nll-on-probabilities", lambda: digits_cnn(model=log_softmax, loss=nn.NLLLoss()))
    silent("nll-on-probabilities", lambda: digits_cnn(model=softmax, loss=lambda p, y: F.nll_loss(p.log(), y)))


def binary(last: Callable[[], nn.Module], loss: nn.Module) -> Callable[[], Pipeline]:
    def build() -> Pipeline:
        net = nn.Sequential(cnn()[:-1], nn.Linear(64, 1), last(), nn.Flatten(0))
        return digits_cnn(model=lambda: net, labels=lambda y: (y > 4).float(), loss=loss, num_classes=None,
                          train=floats(), val=None)  # fmt: skip

    return build


def tags(loss: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], Pipeline]:
    def build() -> Pipeline:
        from small_pipelines import digits_tensors

        x, y = digits_tensors()
        batches = list(zip(x[:128].split(16), F.one_hot(y[:128], 10).float().split(16), strict=True))
        return digits_cnn(loss=loss, num_classes=None, train=batches, val=None, task="multilabel")

    return build


def floats() -> list[tuple[Tensor, Tensor]]:
    from small_pipelines import digits_tensors

    x, y = digits_tensors()
    return list(zip(x[:128].split(16), (y[:128] > 4).float().split(16), strict=True))


def test_bce_on_probabilities() -> None:
    finding = found("bce-on-probabilities", binary(nn.Sigmoid, nn.BCEWithLogitsLoss()))
    assert "nn.Sigmoid" in finding.where[0].text or "last()" in finding.where[0].text
    assert "between 0 and 1" in found("bce-on-probabilities", binary(nn.Identity, nn.BCELoss())).message
    cut = found("bce-on-probabilities", tags(lambda out, y: F.binary_cross_entropy(out.clamp(0, 1), y)))
    assert cut.values["share"] > 0.2
    kept = lambda out, y: F.binary_cross_entropy_with_logits(out.clamp(-10, 10), y)  # noqa: E731
    silent("bce-on-probabilities", tags(kept))
    safe = lambda out, y: F.binary_cross_entropy(out.sigmoid().clamp(1e-6, 1 - 1e-6), y)  # noqa: E731
    silent("bce-on-probabilities", tags(safe))
    silent("bce-on-probabilities", binary(nn.Identity, nn.BCEWithLogitsLoss()))
    silent("bce-on-probabilities", binary(nn.Sigmoid, nn.BCELoss()))


def test_mse_for_classification() -> None:
    one_output = lambda: nn.Sequential(cnn()[:-1], nn.Linear(64, 1), nn.Flatten(0))  # noqa: E731
    numbers = lambda out, y: F.mse_loss(out, y.float())  # noqa: E731
    finding = found("mse-for-classification", lambda: digits_cnn(model=one_output, loss=numbers))
    assert finding.values["how"] == "class numbers"
    one_hot = lambda out, y: F.mse_loss(out, F.one_hot(y, 10).float())  # noqa: E731
    assert found("mse-for-classification", lambda: digits_cnn(loss=one_hot)).values["how"] == "one-hot labels"
    silent("mse-for-classification", digits_cnn)
    silent("mse-for-classification", regression)


class Tagger(nn.Module):
    def __init__(self, classes: int, transposed: bool) -> None:
        super().__init__()
        self.embedding, self.head, self.transposed = nn.Embedding(20, 16), nn.Linear(16, classes), transposed

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.embedding(x))
        return out.transpose(1, 2) if self.transposed else out


def tagging(classes: int, transposed: bool) -> Callable[[], Pipeline]:
    def build() -> Pipeline:
        model = Tagger(classes, transposed)
        tokens = torch.randint(0, 20, (64, 8))
        batches = list(zip(tokens.split(8), (tokens % classes).split(8), strict=True))
        return Pipeline(model, batches, loss=nn.CrossEntropyLoss(), task="segmentation",
                        optimizer=torch.optim.Adam(model.parameters()))  # fmt: skip

    return build


@pytest.mark.parametrize("classes", [5, 8])  # 8 classes at 8 positions: no shape tells
def test_wrong_loss_axis(classes: int) -> None:
    assert found("wrong-loss-axis", tagging(classes, transposed=False)).where
    silent("wrong-loss-axis", tagging(classes, transposed=True))
    if classes == 5:
        silent("output-shape-mismatch", tagging(classes, transposed=False))


def test_unstable_log() -> None:
    unstable = lambda out, y: F.nll_loss(torch.log(torch.softmax(out, 1)), y)  # noqa: E731
    assert "torch.log" in found("unstable-log", lambda: digits_cnn(loss=unstable)).where[0].text
    for stable in (
        lambda out, y: F.nll_loss(torch.log(torch.softmax(out, 1) + 1e-8), y),
        lambda out, y: F.nll_loss(torch.log(torch.softmax(out, 1).clamp_min(1e-8)), y),
        lambda out, y: F.nll_loss(F.log_softmax(out, 1), y),
    ):
        silent("unstable-log", lambda loss=stable: digits_cnn(loss=loss))


def test_loss_sign_flipped() -> None:
    found("loss-sign-flipped", lambda: digits_cnn(loss=lambda out, y: -F.cross_entropy(out, y)))
    uphill = found(
        "loss-sign-flipped",
        lambda: digits_cnn(optimizer=lambda net: torch.optim.SGD(net.parameters(), lr=0.1, maximize=True)),
    )
    assert "maximize" in uphill.where[0].text
    silent("loss-sign-flipped", digits_cnn)
    silent("loss-sign-flipped", lambda: digits_cnn(
        loss=lambda out, y: -F.cross_entropy(out, y),
        optimizer=lambda net: torch.optim.SGD(net.parameters(), lr=0.1, maximize=True)))  # fmt: skip
    silent("loss-sign-flipped", lambda: digits_cnn(loss=lambda out, y: -out[torch.arange(len(y)), y].mean()))


def language(shift: int, late: bool = False) -> Callable[[], Pipeline]:
    """The targets are the tokens ``shift`` places on. ``late``: the model puts each output one place later."""

    def build() -> Pipeline:
        pipeline = language_model()
        if late:
            pipeline.model.register_forward_hook(lambda model, given, out: F.pad(out[:, :-1], (0, 0, 1, 0)))
        g = torch.Generator().manual_seed(1)
        rows = torch.randint(0, 30, (64, 15), generator=g)
        batches = [
            {"input_ids": r[:, 1:13], "labels": r[:, 1 + shift : 13 + shift].contiguous()} for r in rows.split(16)
        ]
        pipeline.train, pipeline.val = batches, None
        return pipeline

    return build


@pytest.mark.parametrize("shift", [-1, 0, 2])
def test_misaligned_language_model_labels(shift: int) -> None:
    finding = found("misaligned-language-model-labels", language(shift))
    assert finding.values["places"] == abs(shift)


def test_a_model_that_shifts_its_outputs() -> None:
    finding = found("misaligned-language-model-labels", language(1, late=True))
    assert finding.values["late"] == 1
    silent("misaligned-language-model-labels", language(0, late=True))  # as decoders that shift their input do


def test_next_tokens_are_aligned() -> None:
    assert "next one" in silent("misaligned-language-model-labels", language(1))
    silent("misaligned-language-model-labels", tagging(20, transposed=True))  # a tagger may give back its input
