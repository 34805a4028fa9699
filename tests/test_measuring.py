"""What measurements share, and the lines that they can tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import small_pipelines as small
import torch
from probing import context, judge
from torch import Tensor, nn
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, TensorDataset

from diagnose.measure.attempt import ModuleWatch
from diagnose.measure.of_data import FIRST_BATCHES
from diagnose.measure.step_watch import norms
from diagnose.pipeline import Pipeline
from diagnose.rng import seed_all, seeded
from probes.records.updates import Updates


def test_seeding_gives_what_torch_gives() -> None:
    with seeded(0):
        torch.manual_seed(7)
        wanted = torch.rand(3)
        seed_all(7)
        assert torch.equal(torch.rand(3), wanted)


def test_norms_of_all_kinds_of_tensors() -> None:
    dense = [torch.arange(5.0), torch.ones(2, 3, dtype=torch.float64), torch.full((4,), 2.0, dtype=torch.bfloat16)]
    sparse = torch.eye(3).to_sparse()
    assert norms(dense) == pytest.approx([30**0.5, 6**0.5, 4.0])
    assert norms([*dense, sparse]) == pytest.approx([30**0.5, 6**0.5, 4.0, 3**0.5])
    assert norms([]) == []


class Counting(nn.Sequential):
    """Keeps in a buffer how often it was called; its answer does not depend on it."""

    def __init__(self) -> None:
        super().__init__(*small.cnn())
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x)


def test_the_disturbed_output_is_shared_only_where_the_model_keeps_nothing() -> None:
    plain, counting = context(small.digits_cnn), context(lambda: small.digits_cnn(model=Counting))
    shared = plain.outputs().stirred
    assert shared is not None
    assert plain.evaluate() is shared
    assert torch.equal(shared, plain.evaluate(lambda inputs: inputs))
    assert counting.outputs().stirred is None
    for ctx in (plain, counting):
        turned = [ctx.evaluate(lambda inputs: [x.flip(0) for x in inputs]) for _ in range(2)]
        assert torch.equal(turned[0], turned[1])
        assert not torch.equal(turned[0], shared)
        assert torch.equal(ctx.evaluate(lambda inputs: inputs), shared)


def clipped() -> Pipeline:
    pipeline = small.digits_cnn(model=lambda: small.cnn(batchnorm=True))
    pipeline.clip_grad_norm = 0.1
    return pipeline


def accumulated() -> Pipeline:
    pipeline = small.digits_cnn()
    pipeline.accumulate = 2
    return pipeline


def without_time(found: Updates) -> Updates:
    return replace(found, seconds_per_batch=0.0)


@pytest.mark.parametrize("build", [small.digits_cnn, clipped, accumulated])
def test_updates_that_go_on_from_the_attempt_are_those_of_a_fresh_pipeline(build: Callable[[], Pipeline]) -> None:
    ctx = context(build)
    goes_on = without_time(ctx.updates())
    other = context(build)
    other.attempt()
    _ = other.trainings  # lets go of what the attempt left
    assert goes_on == without_time(other.updates())
    assert (goes_on.losses[0] == ctx.attempt().loss) is (build is not accumulated)


def zero_head() -> nn.Sequential:
    net = small.cnn()
    nn.init.zeros_(net[-1].weight)
    return net


def test_only_what_hides_a_gradient_is_disturbed() -> None:
    plain, hidden = context(small.digits_cnn), context(lambda: small.digits_cnn(model=zero_head))
    assert plain.gradients() is plain.attempt().gradients
    assert all(plain.gradients().values())
    assert hidden.attempt().gradients["0.weight"] == 0
    assert all(hidden.gradients().values())


def test_a_gradient_of_a_later_batch_counts() -> None:
    """Classes of an embedding, one of which the first batch lacks."""

    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 2), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.second(x) if bool((x > 0).all()) else self.first(x)
            return out

    x = torch.cat([-torch.ones(8, 4), torch.ones(8, 4)]) * torch.linspace(1, 2, 16).unsqueeze(1)
    data = TensorDataset(x, torch.arange(16) % 2)
    found = context(lambda: Pipeline(Parts(), DataLoader(data, batch_size=8), loss=nn.CrossEntropyLoss())).gradients()
    assert all(found.values())


class Counted:
    """A factory that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Pipeline:
        self.calls += 1
        return small.digits_cnn()


def test_what_is_left_as_it_was_is_handed_on() -> None:
    counted = Counted()
    ctx = context(partial(built, counted))
    begun = counted.calls
    for measure in (ctx.attempt, ctx.updates, ctx.inspection, ctx.outputs, ctx.evaluate, ctx.gradients):
        measure()
    ctx.evaluate(lambda inputs: [x.flip(0) for x in inputs])
    assert counted.calls - begun == 2  # one is trained, one is only looked at


def built(factory: Counted) -> Pipeline:
    return factory()


class Half(nn.Module):
    """So many of its units answer to no input."""

    def __init__(self, silent: int) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(64, 16), nn.Linear(16, 10)
        nn.init.constant_(self.body.bias[:silent], -1e3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.relu(self.body(x.flatten(1))))
        return out


@pytest.mark.parametrize(("silent", "batches"), [(0, 2), (12, FIRST_BATCHES)])
def test_silent_units_are_looked_at_for_longer(silent: int, batches: int) -> None:
    """32 samples each."""
    ctx = context(lambda: small.digits_cnn(model=lambda: Half(silent)))
    assert ctx.inspection().samples == batches * 32


def test_records_of_modules_tell_what_is_not_finite() -> None:
    model = nn.Sequential(nn.Identity(), nn.ReLU())
    watch = ModuleWatch(model, records=True)
    for given in (torch.tensor([1e30, -1e30]), torch.tensor([0.0, float("inf")]), torch.tensor([2.0, 0.0, 0.0, -1.0])):
        model(given)
        assert watch.records["0"].finite is bool(given.isfinite().all())
    assert watch.records["1"].zero_share == 0.75
    watch.close()


def scheduled(make: Any) -> Pipeline:
    net = small.cnn()
    optimizer = torch.optim.Adam(net.parameters())
    return small.digits_cnn(model=lambda: net, optimizer=lambda _: optimizer, scheduler=make(optimizer))


def joined(optimizer: Any) -> Any:
    parts = [lr_scheduler.LinearLR(optimizer), lr_scheduler.ExponentialLR(optimizer, 0.9)]
    return lr_scheduler.SequentialLR(optimizer, parts, [5])


@pytest.mark.parametrize("make", [lambda o: lr_scheduler.StepLR(o, 3), joined])
def test_the_line_of_the_scheduler(make: Any) -> None:
    (where, *_) = context(lambda: scheduled(make)).scheduler_at()
    assert "lr_scheduler." in where.text


class Ignoring(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = small.cnn()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(torch.ones_like(x))
        return out


def test_the_line_of_the_forward() -> None:
    finding = judge("ignored-input", lambda: small.digits_cnn(model=Ignoring)).findings[0]
    assert "def forward" in finding.where[0].text
    assert context(small.digits_cnn).forward_at() == context(small.digits_cnn).created_at("")


def uncleared(net: nn.Module, batch: Any, optimizer: Any) -> Tensor:
    x, y = batch
    loss = nn.functional.cross_entropy(net(x), y)
    loss.backward()
    optimizer.step()
    return loss.detach()


def test_the_lines_of_a_step() -> None:
    finding = judge("gradients-not-cleared", lambda: small.digits_cnn(train_step=uncleared)).findings[0]
    assert [where.text for where in finding.where] == ["loss.backward()", "optimizer.step()"]


class WithToken(nn.Module):
    """A token that starts next to zero, and a gain for each filter that starts at one behind a branch that is zero."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(1e-7 * torch.randn(1, 1, 8, 8))
        self.gain = nn.Parameter(torch.ones(8, 1, 1, 1))
        self.skip = nn.Parameter(torch.zeros(()))
        self.branch, self.body = nn.Conv2d(1, 8, 3, padding=1), small.cnn()

    def forward(self, x: Tensor) -> Tensor:
        x = x + 100 * self.token
        scaled = nn.functional.conv2d(x, self.branch.weight * self.gain, padding=1)
        out: Tensor = self.body(x + self.skip * scaled.mean(1, keepdim=True))
        return out


@pytest.mark.parametrize("name", ["exploding-gradient", "symmetric-initialisation"])
def test_tokens_and_gains_are_no_weights_of_layers(name: str) -> None:
    frozen_skip = lambda net: torch.optim.SGD([p for k, p in net.named_parameters() if k != "skip"], lr=0.01)  # noqa: E731
    assert judge(name, lambda: small.digits_cnn(model=WithToken, optimizer=frozen_skip)).findings == ()
