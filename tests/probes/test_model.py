"""Probes of the model: each fault is a healthy pipeline plus one change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from healthy_models import SMALL, Residual, from_torchvision, mlp
from probing import context
from small_pipelines import HEALTHY, Images, cnn, digits_cnn, digits_tensors, language_model, regression, text
from test_loss import found, silent
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from diagnose.judging import run_probe
from diagnose.pipeline import Pipeline
from probes import catalogue
from probes.api import Stage
from probes.results import Severity, Status

MINE = [
    name
    for name in catalogue.names()
    if catalogue.doc(name).code[:3] in {"MOD", "LOS"} and catalogue.doc(name).stage is Stage.SMOKE
]


class Wrapped(nn.Module):
    """The CNN of the digits between two changes."""

    def __init__(self, after: Callable[[Tensor], Any], before: Callable[[Tensor], Tensor] = lambda x: x) -> None:
        super().__init__()
        self.body, self.after, self.before = cnn(), after, before

    def forward(self, x: Tensor) -> Any:
        return self.after(self.body(self.before(x)))


def with_output(after: Callable[[Tensor], Any], **fields: Any) -> Callable[[], Pipeline]:
    return lambda: digits_cnn(model=lambda: Wrapped(after), **fields)


def with_model(model: Callable[[], nn.Module], **fields: Any) -> Callable[[], Pipeline]:
    return lambda: digits_cnn(model=model, **fields)


def initialised(model: Callable[[], nn.Module], init: Callable[[Tensor], Any]) -> Callable[[], nn.Module]:
    """The model with ``init`` on every matrix and filter, biases 0."""

    def make() -> nn.Module:
        made = model()
        for p in made.parameters():
            _ = init(p) if p.ndim > 1 else nn.init.zeros_(p)
        return made

    return make


# -- healthy --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("make", [*HEALTHY, *SMALL], ids=lambda make: make.__name__)
def test_healthy_pipelines_stay_silent(make: Callable[[], Pipeline], seed: int) -> None:
    stay_silent(make, seed)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small convolutions run many times slower on two threads than on one when another process is at work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "mnasnet0_5"])
def test_models_of_torchvision_stay_silent(name: str, one_thread: None) -> None:
    stay_silent(from_torchvision(name), 0)


def stay_silent(make: Callable[[], Pipeline], seed: int) -> None:
    ctx = context(make, seed)
    results = [run_probe(name, ctx) for name in MINE]
    judged = [r for r in results if r.status not in {Status.PASS, Status.SKIPPED} or _faults(r)]
    assert not judged, [(r.name, r.status, r.reason) for r in judged]
    assert sum(r.status is Status.PASS for r in results) > len(results) / 3
    assert all(r.reason for r in results if r.status is Status.SKIPPED)


def _faults(result: Any) -> bool:
    return any(finding.severity is not Severity.NOTE for finding in result.findings)


# -- the output and the loss ----------------------------------------------------------------------------------------


def test_output_shape_mismatch() -> None:
    single = with_model(lambda: nn.Sequential(cnn()[:-1], nn.Linear(64, 1)), labels=lambda y: y * 0)
    finding = found("output-shape-mismatch", single)
    assert finding.values["loss"] == 0
    assert "nn.Linear(64, 1)" in finding.where[0].text
    columns = lambda out, y: F.cross_entropy(out, y.unsqueeze(1))  # noqa: E731
    found("output-shape-mismatch", lambda: digits_cnn(loss=columns))
    assert "(32, 10)" in silent("output-shape-mismatch", digits_cnn)


def one_column(loss: Callable[..., Any]) -> Callable[[], Pipeline]:
    def build() -> Pipeline:
        pipeline = regression()
        pipeline.train = [(x, y.squeeze(1)) for x, y in pipeline.train]
        pipeline.val, pipeline.loss = None, loss
        return pipeline

    return build


@pytest.mark.filterwarnings("ignore:Using a target size")
def test_target_broadcast() -> None:
    assert found("target-broadcast", one_column(nn.MSELoss())).values["pairs"] == 32 * 32
    finding = found("target-broadcast", one_column(lambda out, y: ((out - y) ** 2).mean()))
    assert "out - y" in finding.where[0].text
    silent("target-broadcast", one_column(lambda out, y: F.mse_loss(out.squeeze(1), y)))
    silent("target-broadcast", one_column(lambda out, y: F.mse_loss(out, y.mean())))
    silent("target-broadcast", regression)


@pytest.mark.parametrize("after", [lambda x: torch.softmax(x, 1), lambda x: F.softmax(x, 1).clone()])
def test_softmax_before_cross_entropy(after: Callable[[Tensor], Tensor]) -> None:
    finding = found("softmax-before-cross-entropy", with_output(after))
    assert finding.values["floor"] == pytest.approx(1.461, abs=1e-3)
    assert "softmax" in finding.where[0].text


def test_softmax_module_is_named_where_it_was_created() -> None:
    finding = found("softmax-before-cross-entropy", with_model(lambda: nn.Sequential(cnn(), nn.Softmax(dim=-1))))
    assert "nn.Softmax" in finding.where[0].text


def test_log_probabilities_are_no_probabilities() -> None:
    silent("softmax-before-cross-entropy", digits_cnn)
    silent("softmax-before-cross-entropy", with_output(lambda x: F.log_softmax(x, 1)))
    silent(
        "softmax-before-cross-entropy", with_output(lambda x: F.softmax(x, 1), loss=lambda p, y: F.nll_loss(p.log(), y))
    )


@pytest.mark.parametrize("after", [F.relu, torch.sigmoid, nn.Tanh(), nn.ReLU(inplace=True)])
@pytest.mark.parametrize("seed", [0, 1])
def test_activation_on_logits(after: Callable[[Tensor], Tensor], seed: int) -> None:
    result = run_probe("activation-on-logits", context(with_output(after), seed))
    assert [finding.name for finding in result.findings] == ["activation-on-logits"], result


def test_scaled_tanh_and_pooled_relu_are_no_activation_on_logits() -> None:
    silent("activation-on-logits", digits_cnn)
    silent("activation-on-logits", with_output(lambda x: 10 * torch.tanh(x / 10)))
    silent("activation-on-logits", with_output(lambda x: F.relu(x).add_(-0.5)))
    silent("activation-on-logits", from_torchvision("squeezenet1_1"))


def test_softmax_over_batch() -> None:
    found("softmax-over-batch", with_output(lambda x: F.log_softmax(x, 0), loss=nn.NLLLoss()))
    found("softmax-over-batch", with_output(lambda x: torch.softmax(x, 0)))
    silent("softmax-over-batch", with_output(lambda x: F.log_softmax(x, 1), loss=nn.NLLLoss()))


# -- structure ------------------------------------------------------------------------------------------------------


class Recurrent(nn.Module):
    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 16, batch_first=batch_first)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.lstm(x[:, 0])[0][:, -1])
        return out


def test_batch_mixing() -> None:
    found("batch-mixing", with_output(lambda x: x - x.mean(0)))
    mixed = lambda x: x.permute(1, 2, 3, 0).reshape(x.shape)  # noqa: E731
    found("batch-mixing", with_model(lambda: Wrapped(lambda x: x, before=mixed)))
    found("batch-mixing", with_model(lambda: Recurrent(batch_first=False)))
    silent("batch-mixing", with_model(lambda: Recurrent(batch_first=True)))
    silent("batch-mixing", lambda: digits_cnn(batchnorm=True))


class InAList(nn.Module):
    def __init__(self, hold: Callable[[list[nn.Module]], Any]) -> None:
        super().__init__()
        self.layers = hold([nn.Linear(64, 32), nn.Linear(32, 10)])
        self.norm = nn.LayerNorm(32)

    def forward(self, x: Tensor) -> Tensor:
        first, last = list(self.layers.values() if isinstance(self.layers, dict) else self.layers)
        out: Tensor = last(F.relu(self.norm(first(x.flatten(1)))))
        return out


def test_unregistered_modules() -> None:
    for hold in (list, tuple, lambda layers: dict(enumerate(layers))):
        finding = found("unregistered-modules", with_model(lambda hold=hold: InAList(hold)))
        assert (finding.values["count"], finding.values["elements"]) == (2, 64 * 32 + 32 + 32 * 10 + 10)
        assert "nn.Linear(64, 32)" in finding.where[0].text
    assert "all registered" in silent("unregistered-modules", with_model(lambda: InAList(nn.ModuleList)))
    silent("unregistered-modules", text)


class LateHead(nn.Module):
    def __init__(self, once: bool) -> None:
        super().__init__()
        self.body, self.once = cnn()[:-1], once

    def forward(self, x: Tensor) -> Tensor:
        if not self.once:
            return nn.Linear(64, 10)(self.body(x))
        if not hasattr(self, "head"):
            self.head = nn.Linear(64, 10)
        out: Tensor = self.head(self.body(x))
        return out


@pytest.mark.parametrize("once", [False, True])
def test_layer_created_in_forward(once: bool) -> None:
    finding = found("layer-created-in-forward", with_model(lambda: LateHead(once)))
    assert finding.values["every_call"] is not once
    assert "nn.Linear(64, 10)" in finding.where[0].text


def test_modules_without_parameters_may_be_created_in_forward() -> None:
    silent("layer-created-in-forward", with_output(lambda x: nn.Dropout(0.0)(x) + 0))


def test_missing_nonlinearity() -> None:
    linear = lambda: mlp(64, 128, 32, 10, activation=nn.Identity)  # noqa: E731
    assert found("missing-nonlinearity", with_model(linear)).values["layers"] == 3
    silent("missing-nonlinearity", with_model(lambda: mlp(64, 128, 32, 10)))
    silent("missing-nonlinearity", with_model(lambda: mlp(64, 10)))


def test_nondeterministic_eval() -> None:
    finding = found("nondeterministic-eval", with_output(lambda x: F.dropout(x, 0.5)))
    assert "F.dropout" in finding.where[0].text
    noisy = found("nondeterministic-eval", with_output(lambda x: x + torch.randn_like(x)))
    assert "randn_like" in noisy.message
    silent("nondeterministic-eval", with_model(lambda: nn.Sequential(cnn(), nn.Dropout(0.5))))


class TwoInputs(nn.Module):
    def __init__(self, forget: bool) -> None:
        super().__init__()
        self.image, self.extra, self.forget = cnn(), nn.Linear(3, 10), forget

    def forward(self, x: Tensor, extra: Tensor) -> Tensor:
        out: Tensor = self.image(x)
        return out if self.forget else out + self.extra(extra)


def two_inputs(forget: bool) -> Callable[[], Pipeline]:
    def build() -> Pipeline:
        x, y = digits_tensors()
        batches = [(x[i : i + 16], torch.randn(16, 3), y[i : i + 16]) for i in range(0, 64, 16)]
        return digits_cnn(model=lambda: TwoInputs(forget), train=batches, val=None)

    return build


def test_ignored_input() -> None:
    finding = found("ignored-input", two_inputs(forget=True))
    assert (finding.values["index"], finding.values["count"]) == (2, 2)
    found("ignored-input", with_model(lambda: Wrapped(lambda x: x, before=torch.zeros_like)))
    silent("ignored-input", two_inputs(forget=False))
    silent("ignored-input", with_model(Residual))


# -- activations and initialisation -----------------------------------------------------------------------------------


def test_nonfinite_activations() -> None:
    def broken() -> nn.Module:
        net = cnn()
        nn.init.constant_(net[4].bias, float("inf"))  # type: ignore[arg-type]
        return net

    finding = found("nonfinite-activations", with_model(broken))
    assert finding.values["path"] == "4"
    found("nonfinite-activations", with_output(lambda x: x / 0.0 * 0.0))
    silent("nonfinite-activations", digits_cnn)


def dead(model: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        made = model()
        linear = next(m for m in made.modules() if isinstance(m, nn.Linear))
        nn.init.constant_(linear.bias, -10.0)
        return made

    return make


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(64, 32), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(F.relu(self.first(x.flatten(1))))
        return out


@pytest.mark.parametrize("model", [Functional, lambda: mlp(64, 32, 10)], ids=["functional", "module"])
def test_dead_relu(model: Callable[[], nn.Module]) -> None:
    finding = found("dead-relu", with_model(dead(model)))
    assert finding.values["share"] == 1
    assert finding.where
    silent("dead-relu", with_model(model))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_deep_network_with_default_weights_is_not_dead(seed: int) -> None:
    deep = with_model(lambda: mlp(64, *[64] * 8, 10))
    for name in ("dead-relu", "vanishing-initialisation", "symmetric-initialisation"):
        assert not run_probe(name, context(deep, seed)).findings


def test_saturated_activations() -> None:
    squashed = lambda: mlp(64, 64, 64, 10, activation=nn.Tanh)  # noqa: E731
    found("saturated-activations", with_model(squashed, images=lambda x: x * 255))
    silent("saturated-activations", with_model(squashed))


def test_exploding_initialisation() -> None:
    deep = lambda: mlp(64, 64, 64, 10)  # noqa: E731
    finding = found("exploding-initialisation", with_model(initialised(deep, nn.init.normal_)))
    assert finding.values["growth"] > 10
    silent("exploding-initialisation", with_model(deep))
    silent("exploding-initialisation", with_model(initialised(deep, nn.init.kaiming_normal_)))


def test_vanishing_initialisation() -> None:
    deep = lambda: mlp(64, 64, 64, 64, 10)  # noqa: E731
    small = with_model(initialised(deep, lambda p: nn.init.normal_(p, std=1e-3)))
    assert found("vanishing-initialisation", small).values["remains"] < 1e-4
    silent("vanishing-initialisation", with_model(deep))
    silent("vanishing-initialisation", with_model(Residual))


@pytest.mark.parametrize("value", [0.0, 0.05])
def test_symmetric_initialisation(value: float) -> None:
    alike = initialised(lambda: mlp(64, 32, 10), lambda p: nn.init.constant_(p, value))
    found("symmetric-initialisation", with_model(alike))
    silent("symmetric-initialisation", with_model(Residual))


def test_batchnorm_on_single_sample() -> None:
    net = lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))  # noqa: E731
    images, labels = digits_tensors()

    def loader(size: int, count: int = 65) -> Callable[[], Pipeline]:
        return lambda: digits_cnn(
            model=net, train=DataLoader(Images(images[:count], labels[:count]), batch_size=size), val=None
        )

    assert found("batchnorm-on-single-sample", loader(16)).values["samples"] == 65
    assert "more than 1 value" in found("batchnorm-on-single-sample", loader(1)).message
    silent("batchnorm-on-single-sample", loader(16, count=66))
    silent("batchnorm-on-single-sample", lambda: digits_cnn(batchnorm=True, n=513))


# -- language models ------------------------------------------------------------------------------------------------


def language(ahead: int | None) -> Callable[[], Pipeline]:
    """The mask lets a position see ``ahead`` positions too many; None: all of them."""

    def build() -> Pipeline:
        pipeline = language_model()
        if ahead == 0:
            return pipeline
        for block in pipeline.model.blocks:  # type: ignore[union-attr]
            _see_ahead(block, ahead)
        return pipeline

    return build


def _see_ahead(block: Any, ahead: int | None) -> None:
    attention = block.attention.forward

    def forward(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor, need_weights: bool) -> Any:
        length = q.shape[1]
        mask = None if ahead is None else torch.triu(torch.ones(length, length, dtype=torch.bool), 1 + ahead)
        return attention(q, k, v, attn_mask=mask, need_weights=need_weights)

    block.attention.forward = forward


@pytest.mark.parametrize("ahead", [1, None])
def test_future_leak(ahead: int | None) -> None:
    finding = found("future-leak", language(ahead))
    assert finding.values["share"] > 0


def test_a_causal_model_does_not_leak() -> None:
    assert "do not see" in silent("future-leak", language(0))
    silent("future-leak", text)
