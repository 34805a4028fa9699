"""Each probe of the optimizer finds its fault, and is silent on the healthy twin."""

from __future__ import annotations

import math
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


def adam(parameters: Any, lr: float = 1e-3) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=lr)


def only_the_head() -> Pipeline:
    return small.digits_cnn(optimizer=lambda net: adam(net[-1].parameters()))  # type: ignore[index]


def only_the_head_meant() -> Pipeline:
    return small.digits_cnn(optimizer=lambda net: adam(net[-1].parameters()), intents=("partial-optimizer",))  # type: ignore[index]


def built_before_swap(after: bool = False) -> Pipeline:
    net = small.cnn()
    net[-1] = nn.Linear(64, 100)
    early = adam(net.parameters())
    net[-1] = nn.Linear(64, 10)
    late = adam(net.parameters())
    return small.digits_cnn(model=lambda: net, optimizer=lambda _: late if after else early)


def built_after_swap() -> Pipeline:
    return built_before_swap(after=True)


def of_another_model() -> Pipeline:
    return small.digits_cnn(optimizer=lambda _: adam(small.cnn().parameters()))


class LearnedTemperature(nn.Module):
    """A loss with a parameter of its own, which the optimizer holds too."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(logits * self.scale, target)


def loss_learns_too() -> Pipeline:
    loss = LearnedTemperature()
    return small.digits_cnn(loss=loss, optimizer=lambda net: adam([*net.parameters(), *loss.parameters()]))


def all_frozen() -> Pipeline:
    net = small.cnn().requires_grad_(False)
    return small.digits_cnn(model=lambda: net)


def no_rate() -> Pipeline:
    return small.digits_cnn(optimizer=lambda net: adam(net.parameters(), lr=0.0))


def scheduled(shape: Callable[[int], float], interval: str = "step", epochs: int = 10) -> Pipeline:
    net = small.cnn()
    optimizer = adam(net.parameters())
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, shape)
    return small.digits_cnn(
        model=lambda: net, optimizer=lambda _: optimizer, scheduler=schedule, scheduler_interval=interval, epochs=epochs
    )


def warm_up_never_ends() -> Pipeline:
    return scheduled(lambda epoch: epoch // 10, "epoch")


def warm_up() -> Pipeline:
    return scheduled(lambda step: min(1.0, step / 100))


def stepped_per_batch() -> Pipeline:
    """Step decay meant per epoch: ten times less every 3 steps."""
    return scheduled(lambda step: 0.1 ** (step // 3))


def stepped_per_epoch() -> Pipeline:
    return scheduled(lambda epoch: 0.1 ** (epoch // 3), "epoch")


def cosine() -> Pipeline:
    return scheduled(lambda step: 0.5 * (1 + math.cos(math.pi * step / 160)))


def cyclic() -> Pipeline:
    return scheduled(lambda step: abs(math.sin(step / 8)))


Step = Callable[[nn.Module, Any, Any], Any]


def with_step(step: Step, weight_decay: float = 0.0, with_loss: bool = False) -> Pipeline:
    def make(net: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=weight_decay)

    made = small.digits_cnn(optimizer=make, train_step=step)
    made.loss = nn.CrossEntropyLoss() if with_loss else None
    return made


def loss_of(model: nn.Module, batch: Any) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


def good_step(model: nn.Module, batch: Any, optimizer: Any) -> Tensor:
    optimizer.zero_grad()
    loss = loss_of(model, batch)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    optimizer.step()
    return loss


def forgets_step(model: nn.Module, batch: Any, optimizer: Any) -> Tensor:
    optimizer.zero_grad()
    loss = loss_of(model, batch)
    loss.backward()
    return loss


def forgets_to_clear(model: nn.Module, batch: Any, optimizer: Any) -> float:
    loss = loss_of(model, batch)
    loss.backward()
    optimizer.step()
    return loss.item()


def clears_too_late(model: nn.Module, batch: Any, optimizer: Any) -> float:
    loss = loss_of(model, batch)
    loss.backward()
    optimizer.zero_grad()
    optimizer.step()
    return loss.item()


def no_step() -> Pipeline:
    return with_step(forgets_step, with_loss=True)


def no_step_and_no_loss() -> Pipeline:
    return with_step(forgets_step)


def proper_step() -> Pipeline:
    return with_step(good_step)


def not_cleared() -> Pipeline:
    return with_step(forgets_to_clear)


def cleared_early() -> Pipeline:
    return with_step(clears_too_late)


def cleared_early_with_decay() -> Pipeline:
    return with_step(clears_too_late, weight_decay=0.1)


def accumulating() -> Pipeline:
    """Steps at every second call, with the gradient of two batches."""
    calls = [0]

    def step(model: nn.Module, batch: Any, optimizer: Any) -> Tensor:
        loss = loss_of(model, batch) / 2
        loss.backward()
        calls[0] += 1
        if calls[0] % 2 == 0:
            optimizer.step()
            optimizer.zero_grad()
        return loss * 2

    return with_step(step)


class Adversary(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.classify, self.judge = small.cnn(), nn.Linear(10, 1)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classify(x)
        return logits


def adversarial() -> Pipeline:
    """Two optimizers in one step, of which the pipeline names one: each clears what is its own."""
    net = Adversary()
    first, second = adam(net.classify.parameters()), adam(net.judge.parameters())

    def step(model: Any, batch: Any, optimizer: Any) -> Tensor:
        first.zero_grad()
        logits = model(batch[0])
        loss = F.cross_entropy(logits, batch[1]) - 0.1 * model.judge(logits).mean()
        loss.backward()
        first.step()
        second.zero_grad()
        model.judge(model(batch[0]).detach()).mean().backward()
        second.step()
        return loss

    return small.digits_cnn(model=lambda: net, optimizer=lambda _: first, train_step=step)


Build = Callable[[], Pipeline]
FAULTS: list[tuple[str, Build, Sequence[Build]]] = [
    (
        "parameters-missing-from-optimizer",
        only_the_head,
        (only_the_head_meant, small.own_step, small.fine_tuning, adversarial),
    ),
    ("stale-optimizer-parameters", built_before_swap, (built_after_swap, loss_learns_too)),
    ("stale-optimizer-parameters", of_another_model, (small.plain_cnn,)),
    ("everything-frozen", all_frozen, (small.fine_tuning,)),
    ("zero-learning-rate", no_rate, (small.plain_cnn,)),
    ("zero-learning-rate", warm_up_never_ends, (warm_up, small.regression)),
    ("parameters-not-updated", no_step, (proper_step, small.own_step)),
    ("parameters-not-updated", no_step_and_no_loss, (accumulating,)),
    ("schedule-collapses", stepped_per_batch, (stepped_per_epoch, cosine, cyclic, warm_up, small.digits_augmented)),
    ("gradients-not-cleared", not_cleared, (proper_step, accumulating, adversarial, small.own_step)),
    ("gradients-cleared-before-step", cleared_early, (proper_step, accumulating, adversarial)),
    ("gradients-cleared-before-step", cleared_early_with_decay, (small.own_step,)),
]
PAIRS = [(name, healthy) for name, _, twins in FAULTS for healthy in twins]


@pytest.mark.parametrize(("name", "faulty"), [(n, f) for n, f, _ in FAULTS], ids=lambda x: getattr(x, "__name__", x))
@pytest.mark.parametrize("seed", range(2))
def test_finds_its_fault(name: str, faulty: Build, seed: int) -> None:
    judged = judge(name, faulty, seed)
    assert judged.names == [name], judged.result.reason
    assert judged.status is Status.FAIL


@pytest.mark.parametrize(("name", "healthy"), PAIRS, ids=lambda x: getattr(x, "__name__", x))
@pytest.mark.parametrize("seed", range(2))
def test_is_silent_on_the_twin(name: str, healthy: Build, seed: int) -> None:
    judged = judge(name, healthy, seed)
    assert all(finding.severity is Severity.NOTE for finding in judged.findings), judged.result
    assert judged.status in {Status.PASS, Status.SKIPPED}, judged.result


def test_tells_where_the_optimizer_was_made() -> None:
    finding = judge("parameters-missing-from-optimizer", only_the_head).findings[0]
    assert finding.values["count"] == 4
    assert finding.where[0].file.endswith("test_optimizer.py")


def test_the_pass_tells_rate_and_decay() -> None:
    assert judge("zero-learning-rate", small.plain_cnn).result.reason == "lr 0.001, weight decay 0"


@pytest.mark.parametrize("faulty", [no_step_and_no_loss, not_cleared, cleared_early])
def test_a_step_without_a_loss_beside_it_is_no_error(faulty: Build) -> None:
    assert judge("user-code-error", faulty).status is Status.PASS
