"""Each probe of the gradient finds its fault, and is silent on the healthy twin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import small_pipelines as small
import torch
from probing import judge
from torch import Tensor, nn
from torch.nn import functional as F

from diagnose.pipeline import Pipeline
from probes.results import Severity, Status


class Net(nn.Module):
    """The CNN in two parts, with a place between them for a fault."""

    def __init__(self, between: Callable[[Tensor], Tensor] = lambda x: x) -> None:
        super().__init__()
        layers = list(small.cnn())
        self.features, self.head, self.between = nn.Sequential(*layers[:-1]), layers[-1], between

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.between(self.features(x)))
        return logits


def detached() -> Pipeline:
    return small.digits_cnn(model=lambda: Net(lambda x: x.detach()))


def through_numpy() -> Pipeline:
    return small.digits_cnn(model=lambda: Net(lambda x: torch.from_numpy(x.detach().numpy().copy())))


class NoGrad(Net):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            features = self.features(x)
        logits: Tensor = self.head(features)
        return logits


def no_grad() -> Pipeline:
    return small.digits_cnn(model=NoGrad)


def no_grad_declared() -> Pipeline:
    return small.digits_cnn(model=NoGrad, intents=("frozen",))


def stop_gradient_branch() -> Pipeline:
    """One of two branches is detached, as in SimSiam: its parameters get their gradient by the other."""

    def compute_loss(model: nn.Module, batch: Any) -> Tensor:
        x, y = batch
        first, second = model(x), model(x + 0.1 * torch.randn_like(x))
        return F.cross_entropy(first, y) - F.cosine_similarity(first, second.detach()).mean()

    return small.digits_cnn(compute_loss=compute_loss)


def teacher() -> Pipeline:
    """A momentum teacher inside the model: it runs without gradient, and the optimizer does not hold it."""

    class Student(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.student, self.teacher = small.cnn(), small.cnn()

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                wanted = self.teacher(x)
            logits: Tensor = self.student(x) + 0.01 * wanted
            return logits

    return small.digits_cnn(model=Student, optimizer=lambda m: torch.optim.Adam(m.student.parameters(), lr=1e-3))


class WithExtra(Net):
    def __init__(self) -> None:
        super().__init__()
        self.extra = nn.Linear(64, 64)


def never_called() -> Pipeline:
    return small.digits_cnn(model=WithExtra)


def zeroed() -> Pipeline:
    return small.digits_cnn(model=lambda: Net(lambda x: x * 0))


def rounded() -> Pipeline:
    return small.digits_cnn(model=lambda: Net(lambda x: (x * 4).round()))


class Residual(nn.Module):
    """Zero-initialised in three ways: the last gamma of a branch, a ReZero gate, and a LoRA factor."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Flatten(), nn.Linear(64, 32))
        self.branch = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32), nn.BatchNorm1d(32))
        nn.init.zeros_(self.branch[3].weight)  # type: ignore[arg-type]
        self.gated, self.gate = nn.Linear(32, 32), nn.Parameter(torch.zeros(1))
        self.a, self.b = nn.Linear(32, 4, bias=False), nn.Linear(4, 32, bias=False)
        nn.init.zeros_(self.b.weight)
        self.head = nn.Linear(32, 10)
        nn.init.zeros_(self.head.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.branch(x)
        x = x + self.gate * self.gated(x)
        x = x + self.b(self.a(x))
        logits: Tensor = self.head(x)
        return logits


def zero_initialised() -> Pipeline:
    return small.digits_cnn(model=Residual)


def zero_initialised_in_warm_up() -> Pipeline:
    net = Residual()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: min(1.0, epoch / 3))
    return small.digits_cnn(model=lambda: net, optimizer=lambda _: optimizer, scheduler=schedule)


def root_of_zero() -> Pipeline:
    return small.digits_cnn(model=lambda: Net(lambda x: torch.sqrt(x.clamp_min(0) * (x > 0.1))))


def root_of_more() -> Pipeline:
    return small.digits_cnn(model=lambda: Net(lambda x: torch.sqrt(x.clamp_min(0) + 1e-6)))


def deep(activation: type[nn.Module], std: float | None = None, layers: int = 9) -> Pipeline:
    def net() -> nn.Module:
        parts: list[nn.Module] = [nn.Flatten()]
        for _ in range(layers):
            layer = nn.Linear(64, 64)
            if std is not None:
                nn.init.normal_(layer.weight, std=std)
            parts += [layer, activation()]
        return nn.Sequential(*parts, nn.Linear(64, 10))

    return small.digits_cnn(model=net)


def deep_sigmoid() -> Pipeline:
    return deep(nn.Sigmoid)


def deep_relu() -> Pipeline:
    return deep(nn.ReLU)


def deep_relu_huge() -> Pipeline:
    return deep(nn.ReLU, std=1.0)


def pixels_up_to_255() -> Pipeline:
    return small.digits_cnn(images=lambda x: x * 255)


Build = Callable[[], Pipeline]
FAULTS: list[tuple[str, Build, Sequence[Build]]] = [
    ("graph-cut", detached, (stop_gradient_branch, teacher)),
    ("graph-cut", through_numpy, (small.fine_tuning,)),
    ("graph-cut", no_grad, (no_grad_declared,)),
    ("unused-parameters", never_called, (small.multilabel, small.language_model)),
    ("zero-gradient", zeroed, (zero_initialised, zero_initialised_in_warm_up)),
    ("zero-gradient", rounded, (small.text,)),
    ("nonfinite-gradient", root_of_zero, (root_of_more,)),
    ("vanishing-gradient", deep_sigmoid, (deep_relu, small.language_model)),
    ("exploding-gradient", deep_relu_huge, (deep_relu, pixels_up_to_255)),
]
PAIRS = [(name, healthy) for name, _, twins in FAULTS for healthy in twins]


@pytest.mark.parametrize(("name", "faulty"), [(n, f) for n, f, _ in FAULTS], ids=lambda x: getattr(x, "__name__", x))
@pytest.mark.parametrize("seed", range(3))
def test_finds_its_fault(name: str, faulty: Build, seed: int) -> None:
    judged = judge(name, faulty, seed)
    assert judged.names == [name], judged.result.reason
    assert judged.status is Status.FAIL


@pytest.mark.parametrize(("name", "healthy"), PAIRS, ids=lambda x: getattr(x, "__name__", x))
@pytest.mark.parametrize("seed", range(3))
def test_is_silent_on_the_twin(name: str, healthy: Build, seed: int) -> None:
    judged = judge(name, healthy, seed)
    assert all(finding.severity is Severity.NOTE for finding in judged.findings), judged.result
    assert judged.status in {Status.PASS, Status.SKIPPED}, judged.result


@pytest.mark.parametrize("faulty", [detached, through_numpy, no_grad])
def test_a_cut_is_located(faulty: Build) -> None:
    judged = judge("graph-cut", faulty)
    assert judged.values["module"] == "features.4"
    assert "before head" in judged.values["after"]
    assert judged.values["count"] == 4
    assert judged.findings[0].where[0].file.endswith("small_pipelines.py")


def test_a_cut_is_not_taken_for_unused_parameters() -> None:
    assert judge("unused-parameters", detached).names == []
    assert judge("graph-cut", never_called).names == []


def test_an_auxiliary_head_is_a_note() -> None:
    assert [f.severity for f in judge("unused-parameters", small.multilabel).findings] == [Severity.NOTE]


def test_names_the_operation_of_a_nonfinite_gradient() -> None:
    operation = judge("nonfinite-gradient", root_of_zero).values["operation"]
    assert operation.endswith(("Sqrt returned NaN first", "Mul returned NaN first"))
