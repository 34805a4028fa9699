"""The monitors: fed by hand as any loop would, and at work in the full training; each on a healthy look-alike too."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from probing import context
from small_pipelines import digits_cnn
from torch import Tensor, nn
from torch.utils.data import DataLoader

from diagnose import Pipeline
from diagnose.monitors import memory, windows
from diagnose.monitors.memory import steady_growth
from diagnose.monitors.monitor import Monitor, Step
from diagnose.monitors.names import OF_EPOCHS, OF_STEPS, STOPPABLE
from diagnose.monitors.nonfinite import find_origin
from diagnose.training import checkpoints
from diagnose.training.loop import train
from probes import catalogue
from probes.api import Inconclusive
from probes.results import Finding, Severity


def classifier() -> Monitor:
    return Monitor(task="classification", num_classes=10)


def feed(monitor: Monitor, steps: int, loss: Callable[[int], float], **step: Any) -> list[Finding]:
    """The findings that were new at any step. Targets are balanced, predictions as given."""
    target = torch.arange(60) % 10
    output = step.pop("output", nn.functional.one_hot(target.roll(1), 10).float())
    found = []
    for index in range(steps):
        found += monitor.observe_step(Step(loss(index), judged=64, output=output, target=target, **step))
    return found


def names(findings: list[Finding]) -> list[str]:
    return [finding.name for finding in findings]


def test_every_name_is_in_the_catalogue() -> None:
    assert set(OF_STEPS) | set(OF_EPOCHS) == set(STOPPABLE)
    for name in STOPPABLE:
        assert catalogue.doc(name).fix


# -- steps, by hand ----------------------------------------------------------------------------------------------


def test_stuck_at_chance_says_since_when_and_is_forgotten_once_it_learns() -> None:
    monitor = classifier()
    assert feed(monitor, 599, lambda step: 2.303, correct=6) == []
    (found,) = feed(monitor, 1, lambda step: 2.303, correct=6)
    assert found.name == "stuck-at-chance"
    assert found.values["since_step"] == 600
    assert found.values["chance"] == pytest.approx(0.1)
    assert feed(monitor, 100, lambda step: 2.303, correct=6) == []  # told once
    feed(monitor, 300, lambda step: 2.0, correct=20)
    assert monitor.findings == {}


@pytest.mark.parametrize(("classes", "batch"), [(200, 64), (1000, 128)])
def test_chance_among_many_classes_is_told_though_few_samples_of_each_were_seen(classes: int, batch: int) -> None:
    generator = torch.Generator().manual_seed(0)
    monitor = Monitor(task="classification", num_classes=classes)
    told: list[str] = []
    for _ in range(600):
        target = torch.randint(classes, (batch,), generator=generator)
        output = torch.zeros(batch, classes).index_fill_(1, torch.tensor([3]), 1.0)
        done = Step(math.log(classes), target=target, output=output, correct=0, judged=batch, lr=1e-3)
        told += [finding.name for finding in monitor.observe_step(done)]
    assert "stuck-at-chance" in told
    found = monitor.findings["stuck-at-chance"]
    assert found.values["chance"] == pytest.approx(1 / classes)


@pytest.mark.parametrize(("width", "expected"), [(10, ["stuck-at-chance"]), (1000, [])])
def test_classes_that_nobody_counted_are_read_from_the_outputs(width: int, expected: list[str]) -> None:
    """A head of a thousand outputs on ten classes may have its loss fall without a better accuracy: not judged."""
    output = nn.functional.one_hot((torch.arange(60) + 1) % 10, width).float()
    monitor = Monitor(task="classification")
    assert names(feed(monitor, 600, lambda step: 2.303, correct=6, output=output)) == expected


@pytest.mark.parametrize(
    "healthy",
    [
        {"loss": lambda step: 2.3 - 0.0003 * step, "correct": 6},  # slow, but the loss falls
        {"loss": lambda step: 2.303, "correct": 12},  # better than guessing
    ],
)
def test_slow_learners_are_not_stuck(healthy: dict[str, Any]) -> None:
    assert feed(classifier(), 800, **healthy) == []


def test_warm_up_and_imbalance_are_given_time() -> None:
    monitor = classifier()
    for step in range(800):
        target = torch.arange(60) % 10
        done = Step(2.303, 6, 64, lr=step * 1e-6, output=torch.eye(10)[target], target=target)
        assert monitor.observe_step(done) == []
    monitor = Monitor(task="classification", num_classes=2)
    target = (torch.arange(100) % 20 == 0).long()
    for _ in range(800):
        done = Step(0.199, 61, 64, output=torch.eye(2)[torch.zeros(100).long()], target=target)
        assert monitor.observe_step(done) == []


def test_diverging_needs_a_whole_window() -> None:
    monitor = classifier()
    assert feed(monitor, 100, lambda step: 2.3, correct=20) == []
    assert feed(monitor, 100, lambda step: 40.0 if step % 2 else 2.0, correct=20) == []  # rough, not lost
    found = feed(monitor, 300, lambda step: 30.0, correct=20)
    assert names(found) == ["diverging"]
    assert feed(Monitor(task="custom"), 600, lambda step: 2.0 + step) == []  # an adversarial loss may rise


def test_predicts_one_class() -> None:
    one = nn.functional.one_hot(torch.full((60,), 3), 10).float()
    assert names(feed(classifier(), 700, lambda step: 2.2, correct=10, output=one)) == ["predicts-one-class"]


def test_slow_loader_and_quick_one() -> None:
    slow = feed(classifier(), 100, lambda step: 1.0, correct=30, waited=0.2, seconds=0.21)
    assert names(slow) == ["slow-dataloader"]
    assert feed(classifier(), 100, lambda step: 1.0, correct=30, waited=0.01, seconds=0.011) == []
    assert feed(classifier(), 100, lambda step: 1.0, correct=30, waited=0.2, seconds=0.6) == []


def test_memory_that_grows_with_the_steps_and_memory_that_only_sways() -> None:
    steps = range(500, 2500, 50)
    told = steady_growth([(step, 1000 + step / 10) for step in steps])
    assert "at step 500" in told
    assert "10 MB per 100 steps" in told
    for healthy in (
        lambda step: 1000 + 30 * math.sin(step),  # allocators
        lambda step: 1000 + 300 * (1 - math.exp(-step / 400)),  # a cache that fills
        lambda step: 1000 + 300 * (step > 1500),  # something loaded once
        lambda step: 1000 + step / 200,  # an hour of it would not matter
    ):
        assert steady_growth([(step, healthy(step)) for step in steps]) == ""
    assert steady_growth([(step, 1000 + step) for step in range(0, 500, 50)]) == ""  # too short to tell


def looped(keep: Callable[[list[Tensor], Tensor, int], object], steps: int = 350) -> list[Finding]:
    """What the monitor of a loop finds that keeps of each step's loss what ``keep`` keeps."""
    model, kept, found = nn.Linear(4, 2), list[Tensor](), list[Finding]()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    monitor = Monitor(model, optimizer, task="regression")
    for step in range(steps):
        with monitor.watched():
            output = model(torch.randn(8, 4))
            loss = output.pow(2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        keep(kept, loss, step)
        found += monitor.observe_step(Step(loss.item(), output=output))
    monitor.close()
    return found


def test_kept_graphs_are_found_and_kept_numbers_are_not() -> None:
    (found,) = looped(lambda kept, loss, step: kept.append(loss))
    assert found.name == "graph-retained"
    assert found.values["retained"] == memory.RETAINED
    assert found.values["since_step"] == memory.EVERY
    assert found.severity is Severity.WARNING  # so small a model loses no memory worth the name
    assert looped(lambda kept, loss, step: kept.append(loss.detach())) == []
    assert looped(lambda kept, loss, step: (kept.append(loss), kept.clear() if step % 40 == 0 else None)) == []


def test_kept_graphs_that_fill_the_memory_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = iter(range(1000, 2000, 20))
    monkeypatch.setattr(memory.MemoryWatch, "megabytes", lambda self: float(next(sizes)))
    (found,) = looped(lambda kept, loss, step: kept.append(loss))
    assert found.severity is Severity.ERROR
    assert found.values["rate"] == pytest.approx(40)


def test_memory_is_followed_from_the_second_epoch_on() -> None:
    monitor = classifier()
    feed(monitor, 5000, lambda step: 1.0, correct=30)
    assert monitor._memory.samples == []
    monitor.observe_epoch({"epoch": 1})
    feed(monitor, 5000, lambda step: 1.0, correct=30)
    steps = [step for step, _ in monitor._memory.samples]
    assert steps[0] < 5200
    assert steps[-1] > 9600
    assert memory.MOST_SAMPLES / 2 < len(steps) <= memory.MOST_SAMPLES


def test_epochs_are_judged_by_the_probes_of_the_history() -> None:
    monitor = classifier()
    found = []
    for epoch, (low, high) in enumerate([(2.0, 2.0), (1.2, 1.3), (0.7, 1.0), (0.4, 1.1), (0.2, 1.4), (0.1, 1.8)], 1):
        row = {"epoch": epoch, "train_loss": low, "val_loss": high, "lr": 0.1}
        row |= {"train_accuracy": 1 - low / 2.3, "val_accuracy": 0.6}
        found += monitor.observe_epoch(row)
    assert names(found) == ["overfitting"]
    assert found[0].values["since_epoch"] == 5


# -- gradients and units ------------------------------------------------------------------------------------------


def test_gradient_norm_and_update_ratio_are_exact() -> None:
    layer = nn.Linear(4, 1, bias=False)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)
    monitor = Monitor(layer, optimizer)
    monitor.step = 99  # the next one is looked at
    before = layer.weight.detach().clone()
    with monitor.watched():
        layer(torch.ones(1, 4)).sum().backward()
        optimizer.step()
    monitor.observe_step(Step(1.0))
    figures = monitor.figures()
    assert figures["gradient_norm"] == pytest.approx(2.0)
    assert figures["update_ratio"] == pytest.approx(1.0 / float(before.norm()))
    monitor.close()
    assert not optimizer._optimizer_step_pre_hooks
    assert not layer._forward_hooks


@pytest.mark.parametrize(("spoiled", "expected"), [(False, []), (True, ["nonfinite-training"])])
def test_a_norm_that_overflows_in_half_precision_is_no_nonfinite_gradient(spoiled: bool, expected: list[str]) -> None:
    layer = nn.Linear(4, 4, bias=False).half()
    optimizer = torch.optim.SGD(layer.parameters(), lr=1e-9)
    monitor = Monitor(layer, optimizer)
    layer.weight.grad = torch.full_like(layer.weight, 60_000.0)  # the largest number of half precision is 65,504
    if spoiled:
        layer.weight.grad[0, 0] = math.inf
    optimizer.step()
    assert names(monitor.observe_step(Step(1.0))) == expected


@pytest.mark.parametrize(("bias", "expected"), [(-100.0, ["dead-relu"]), (0.0, [])])
def test_dead_units(bias: float, expected: list[str]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(8, 32), nn.Linear(32, 10)

        def forward(self, x: Tensor) -> Any:
            return self.last(nn.functional.relu(self.first(x)))

    net = Net()
    nn.init.constant_(net.first.bias, bias)
    monitor = Monitor(net, task="classification", num_classes=10)
    found = []
    for step in range(400):
        with monitor.watched():
            net(torch.randn(16, 8, generator=torch.Generator().manual_seed(step)))
        found += monitor.observe_step(Step(2.3, 30, 64))
    assert names(found) == expected
    assert all(finding.where[0].file.endswith("test_monitors.py") for finding in found)


# -- where a NaN came from ------------------------------------------------------------------------------------------


class Fragile(nn.Module):
    """``how``: the operation that fails on inputs below zero."""

    def __init__(self, how: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.body, self.head, self.how = nn.Linear(4, 4), nn.Linear(4, 3), how

    def forward(self, x: Tensor) -> Any:
        return self.head(self.how(self.body(x)))


@pytest.mark.parametrize(
    ("how", "phase", "operation"),
    [
        (lambda x: torch.log(x - x.max() - 1), "forward", "log"),
        (lambda x: torch.sqrt(x * 0), "backward", "sqrt"),
        (
            lambda x: x.masked_fill(x < x.amax(1, keepdim=True), -math.inf).softmax(1) + (x / 0 - x / 0),
            "forward",
            "sub",
        ),
    ],
)
def test_origin_of_a_nan(how: Callable[[Tensor], Tensor], phase: str, operation: str) -> None:
    net, x = Fragile(how), torch.randn(8, 4)
    found = find_origin(net, lambda: net(x).square().mean(), x)
    assert (found.phase, found.operation) == (phase, operation)
    assert found.where[0].file.endswith("test_monitors.py")
    assert all(p.grad is None for p in net.parameters())
    assert not net._forward_hooks


def test_origin_in_inputs_parameters_or_loss() -> None:
    net, x = Fragile(torch.tanh), torch.randn(8, 4)
    assert find_origin(net, lambda: torch.log(net(x) * 0 - 1).mean(), x).phase == "loss"
    assert find_origin(net, lambda: net(x).mean(), x).phase == "unknown"
    assert find_origin(net, lambda: net(x).mean(), [x, {"a": x * math.nan}]).phase == "inputs"
    nn.init.constant_(net.body.weight, math.nan)
    bad = find_origin(net, lambda: net(x).mean(), x)
    assert (bad.phase, bad.module) == ("parameters", "body.weight")


def nan_pipeline(after: int = 8) -> Pipeline:
    """sqrt of zero from step ``after`` on: a finite loss with a gradient that is not."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
            self.calls = 0

        def forward(self, x: Tensor) -> Any:
            self.calls += self.training and torch.is_grad_enabled()
            return self.layers(x) + torch.sqrt(self.layers(x) * (0 if self.calls > after else 1) ** 2 + 0).nan_to_num()

    return digits_cnn(model=Net, n=512, epochs=3, optimizer=lambda net: torch.optim.SGD(net.parameters(), lr=0.01))


def test_a_nan_in_training_is_named_before_it_spoils_the_parameters(tmp_path: Path) -> None:
    seen: list[Finding] = []
    ended: list[Finding] = []
    ctx = context(nan_pipeline, stop_on=("nonfinite-training",))
    with pytest.raises(Inconclusive, match="--stop-on nonfinite-training"):
        train(ctx, tmp_path, on_finding=seen.append, on_end=ended.extend)
    (found,) = seen
    assert ended == seen
    assert found.values["phase"] == "backward"
    assert found.values["operation"] == "sqrt"
    assert found.values["since_step"] <= 9


def test_a_healthy_training_is_silent(tmp_path: Path) -> None:
    seen: list[Finding] = []
    ctx = context(lambda: digits_cnn(batchnorm=True, n=1200, epochs=3))
    rows = train(ctx, tmp_path, on_finding=seen.append, on_end=seen.extend)
    assert seen == []
    assert all(row["gradient_norm"] > 0 and 0 < row["data_wait"] < 1 for row in rows)
    assert rows[-1]["update_ratio"] > 0  # step 100 lies in the third epoch
    assert {"step", "_recent"} <= checkpoints.read(tmp_path / "checkpoints/latest_checkpoint.pth")["monitor"].keys()


def test_a_training_that_keeps_its_losses_is_told_which_steps_are_still_there(tmp_path: Path) -> None:
    kept: list[Tensor] = []

    def build() -> Pipeline:
        pipeline = digits_cnn(n=700, epochs=1)
        pipeline.train = DataLoader(pipeline.train.dataset, 2)  # type: ignore[attr-defined]

        def leaking(model: nn.Module, batch: Any) -> Tensor:
            loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
            kept.append(loss)
            return loss

        pipeline.compute_loss = leaking
        return pipeline

    ended: list[Finding] = []
    train(context(build), tmp_path, on_end=ended.extend)
    assert names(ended) == ["graph-retained"]
    assert ended[0].values["since_step"] == memory.EVERY


def test_monitors_can_be_switched_off(tmp_path: Path) -> None:
    ctx = context(lambda: digits_cnn(n=64, epochs=1), set=("train.monitors=false",))
    assert "gradient_norm" not in train(ctx, tmp_path)[0]


def test_constants_hold_together() -> None:
    assert windows.WINDOW < windows.PATIENCE
    assert all(catalogue.doc(name).severity is not Severity.NOTE for name in STOPPABLE)
