"""A mean of squares over all pairs, as a program that writes its own loss makes it by accident."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from watching import watch_source

from diagnose.config import Config
from diagnose.watch import judge
from diagnose.watch.pairs import all_pairs

TARGET = torch.randn(6)
LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "mean of a power": lambda out: ((out - TARGET) ** 2).mean(),
    "the target first": lambda out: (TARGET - out).pow(2).mean(),
    "halved inside": lambda out: (0.5 * (out - TARGET) ** 2).mean(),
    "one term of two": lambda out: out.sigmoid().log().mean() + 0.5 * ((out - TARGET) ** 2).sum(),
    "times itself": lambda out: (difference := out - TARGET).mul(difference).mean(),
}
HEALTHY: dict[str, Callable[[Tensor], Tensor]] = {
    "of one shape": lambda out: ((out.squeeze(1) - TARGET) ** 2).mean(),
    "all pairs of outputs": lambda out: ((out - out.T) ** 2).mean(),
    "a kernel of all pairs": lambda out: torch.exp(-((out - TARGET) ** 2)).mean(),
    "the nearest of all": lambda out: ((out - TARGET) ** 2).min(1).values.mean(),
    "several labels of each": lambda out: ((out - TARGET.repeat(6, 2)[:, :3]) ** 2).mean(),
    "distances to prototypes": lambda out: ((out[:, None] - torch.randn(1, 6, 1)) ** 2).sum(-1).mean(),
    "a centre": lambda out: ((out - TARGET.mean()) ** 2).mean(),
    "quantiles": lambda out: (TARGET[:, None] - out * torch.ones(1, 5)).abs().mean(),
}


def output() -> Tensor:
    return torch.nn.Linear(3, 1)(torch.randn(6, 3))


@pytest.mark.parametrize("name", LOSSES)
def test_squares_of_all_pairs_are_seen(name: str) -> None:
    assert all_pairs(LOSSES[name](output())) == ((6, 1), (6,))
    assert all_pairs(((output().squeeze(1) - TARGET[:, None]) ** 2).mean()) == ((6,), (6, 1))


@pytest.mark.parametrize("name", HEALTHY)
def test_what_is_meant_to_compare_more_than_one_target_is_left_alone(name: str) -> None:
    assert all_pairs(HEALTHY[name](output())) is None


SCRIPT = """
import torch
torch.manual_seed(0)
actor, critic = torch.nn.Linear(3, 2), torch.nn.Linear(3, 1)
optimizer = torch.optim.Adam([*actor.parameters(), *critic.parameters()], lr=1e-2)
for step in range(12):
    x = torch.randn(16, 3)
    returns = x.sum(1)
    value = critic(x)SQUEEZED
    loss = ((value - returns) ** 2).mean() - actor(x).log_softmax(1)[:, 0].mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


@pytest.mark.parametrize(("squeezed", "names"), [("", {"target-broadcast"}), (".squeeze(1)", set())])
def test_a_loss_of_several_terms(squeezed: str, names: set[str], tmp_path: Path) -> None:
    found = watch_source(SCRIPT.replace("SQUEEZED", squeezed), tmp_path)
    told = {f.name for r in judge.parts([], Config(), found.loop) for f in r.findings}
    assert told | set(found.alarms) == names
