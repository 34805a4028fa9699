"""Several values of one setting: which become runs of their own, and what the report over all says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from samples import healthy, stuck

from diagnose import sweep
from diagnose.config import Config
from diagnose.errors import UsageError
from reports.sweep import render_sweep


@pytest.fixture(autouse=True)
def lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker would say that widths are a list; it is not started here."""
    monkeypatch.setattr(sweep, "_that_are_lists", lambda config, texts: {t for t in texts if "widths" in t})


def labels(*settings: str, **more: Any) -> list[str]:
    return [label for label, _ in sweep.variants(Config(target="m:f", set=settings, **more))]


def test_each_value_is_a_run_and_a_list_is_one() -> None:
    assert labels("model.name=a,b", "model.widths=32,64") == ["model.name=a", "model.name=b"]
    assert labels("model.widths=32,64") == [""]
    assert labels("model.name=a") == [""]
    assert labels("model.shape=(1,2)") == [""]


def test_several_settings_are_combined() -> None:
    found = sweep.variants(Config(target="m:f", set=("model.name=a,b", "optimizer.lr=0.1,0.2")))
    assert [config.set for _, config in found] == [
        ("model.name=a", "optimizer.lr=0.1"), ("model.name=a", "optimizer.lr=0.2"),
        ("model.name=b", "optimizer.lr=0.1"), ("model.name=b", "optimizer.lr=0.2"),
    ]  # fmt: skip


def test_too_many_are_refused() -> None:
    with pytest.raises(UsageError, match="36 combinations"):
        labels("model.a=1,2,3,4,5,6", "model.b=1,2,3,4,5,6")


def test_every_run_has_a_folder_of_its_own() -> None:
    found = sweep.variants(Config(target="m:f", set=("model.name=a,b",), out="here"))
    assert [config.out for _, config in found] == ["here/model.name_a", "here/model.name_b"]


def test_the_report_says_what_decides_and_in_what_they_differ() -> None:
    bad = replace(stuck(), pipeline={**stuck().pipeline, "dropout": [0.9], "modules": {"Dropout": 3}})
    good = replace(healthy(), pipeline={**healthy().pipeline, "dropout": [0.1], "modules": {"BatchNorm2d": 2}})
    text = render_sweep([("plain", bad), ("normed", good)])
    assert "plain does not learn because of dropout-too-strong" in text
    assert "normed learns although it too has dropout" in text
    assert "| BatchNorm2d | none | 2 |" in text
