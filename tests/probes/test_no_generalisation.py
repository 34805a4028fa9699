"""A part that is learned by heart, where all of the data are not: is it the plan, or only a short training?"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from probing import context
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from diagnose import Pipeline
from diagnose.experiments.change import AS_CONFIGURED
from diagnose.judging import run_probe
from probes.results import Status


def tokens(epochs: int) -> Pipeline:
    """Labels that have nothing to do with the tokens; 40 batches."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randint(high, shape, generator=generator) for high, shape in ((20, (1_400, 8)), (2, (1_400,))))
    model = nn.Sequential(nn.Embedding(20, 8), nn.Flatten(), nn.Linear(64, 2))
    train, val = (DataLoader(TensorDataset(x[part], y[part]), 30, shuffle=True)
                  for part in (slice(1_200), slice(1_200, None)))  # fmt: skip
    return Pipeline(
        model, train, val, loss=nn.CrossEntropyLoss(), optimizer=torch.optim.Adam(model.parameters(), 1e-3),
        epochs=epochs,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("epochs", "status"), [(15, Status.FAIL), (500, Status.INCONCLUSIVE), (2, Status.INCONCLUSIVE)]
)
def test_what_the_whole_plan_does_not_learn_is_told(
    monkeypatch: pytest.MonkeyPatch, epochs: int, status: Status
) -> None:
    ctx = context(partial(tokens, epochs))
    first = ctx.trainings.trial(AS_CONFIGURED, 0, 2)
    end = replace(first.points[-1], train_score=0.52, val_score=0.5)
    at_chance = replace(
        first, points=(*first.points[:-1], end), val_above_chance=False, val_labels=(), trained_on=1_200
    )
    by_heart = replace(at_chance, outcome="learns", share=0.8, trained_on=480)
    all_of_them = replace(at_chance, outcome="stuck", share=0.01, steps=max(600, min(1_800, 40 * epochs)))
    monkeypatch.setattr(ctx, "subset", lambda: by_heart)
    monkeypatch.setattr(ctx, "subset_given_time", lambda: by_heart)
    monkeypatch.setattr(ctx, "learned_by_heart", lambda share: all_of_them)
    assert run_probe("no-generalisation", ctx).status is status


@pytest.mark.parametrize(("epochs", "steps"), [(20, 800), (500, 600)])
def test_all_of_the_data_are_trained_on_as_long_as_is_planned(epochs: int, steps: int) -> None:
    assert context(partial(tokens, epochs)).learned_by_heart(1.0).steps == steps
