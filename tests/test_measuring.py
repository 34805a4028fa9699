"""What measurements share, and the lines that they can tell."""

from __future__ import annotations

from typing import Any

import pytest
import small_pipelines as small
import torch
from probing import context, judge
from torch import Tensor, nn
from torch.optim import lr_scheduler

from diagnose.measure.attempt import ModuleWatch
from diagnose.measure.updates import norms
from diagnose.pipeline import Pipeline
from diagnose.rng import seed_all, seeded


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
