"""``diagnose.check``: the answer, and that what was given is left as it was."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import small_pipelines as small
import torch
from torch import nn

import diagnose
from diagnose.errors import UsageError
from probes.results import Verdict


def stateful() -> Any:
    """A pipeline with everything that could be changed: momentum, gradients, eval mode, a generator of the loader."""
    pipeline = small.digits_cnn()
    optimizer = torch.optim.SGD(pipeline.model.parameters(), lr=0.01, momentum=0.9)
    batch = next(iter(pipeline.train))
    nn.functional.cross_entropy(pipeline.model(batch[0]), batch[1]).backward()
    optimizer.step()
    pipeline.model.eval()
    pipeline.optimizer = optimizer
    return pipeline


def test_a_healthy_pipeline_is_left_as_it_was() -> None:
    pipeline = stateful()
    model = pipeline.model
    weights = copy.deepcopy(model.state_dict())
    gradients = [p.grad.clone() for p in model.parameters()]
    momentum = copy.deepcopy(pipeline.optimizer.state_dict())
    drawn = torch.get_rng_state()
    report = diagnose.check(pipeline)
    assert report.verdict is Verdict.HEALTHY, repr(report)
    assert bool(report)
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    assert all(torch.equal(g, p.grad) for g, p in zip(gradients, model.parameters(), strict=True))
    assert str(pipeline.optimizer.state_dict()) == str(momentum)
    assert not model.training
    assert torch.equal(drawn, torch.get_rng_state())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_fault_is_told_with_its_fix() -> None:
    def build() -> Any:
        pipeline = small.digits_cnn()
        pipeline.model = nn.Sequential(pipeline.model, nn.Softmax(dim=1))
        pipeline.optimizer = torch.optim.Adam(pipeline.model.parameters(), lr=1e-3)
        return pipeline

    report = diagnose.check(build, stages=["smoke"])
    assert report.diagnosis.causes[0].name == "softmax-before-cross-entropy"
    assert "softmax-before-cross-entropy" in report._repr_html_()
    assert not report


def test_what_cannot_be_checked_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="expected a Pipeline"):
        diagnose.check(3)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="stage train"):
        diagnose.check(small.digits_cnn(), stages=["train"])
