"""Dropout of every kind is found where it was written, and really turned off, in one pipeline only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from dropping_models import CLASSES, MODELS, SITES, Maps, context_of, data
from torch import Tensor, nn
from torch.nn import functional as F

from diagnose import Pipeline
from diagnose.experiments import dropout
from diagnose.experiments.knobs import arms
from probes.api import Skip
from probes.records.trials import Arm, DropoutSite
from probes.regularisation.dropout_too_strong import fix_values
from probes.results import Cause, Grade, Where
from reports.causes import cause_view


def settings_of(model: nn.Module) -> list[tuple[str, Any]]:
    """Every probability that a module holds."""
    names = ("p", "dropout", "drop_prob")
    return [
        (f"{path}.{name}", getattr(module, name))
        for path, module in model.named_modules()
        for name in names
        if isinstance(getattr(module, name, None), float)
    ]


def noise(model: nn.Module) -> float:
    """How far two forwards in train mode differ."""
    x, _ = data()
    model.train()
    with torch.no_grad():
        return float((model(x) - model(x)).abs().max())


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_kind_is_found_with_group_and_line(model: type[nn.Module]) -> None:
    sites = context_of(model).dropout_sites()
    wanted = SITES[model]
    assert [(s.kind, s.p, s.group) for s in sites] == [row[:3] for row in wanted.values()]
    for site, (key, (_, _, _, text)) in zip(sites, wanted.items(), strict=True):
        (where,) = site.where
        assert where.file.endswith("dropping_models.py")
        assert text in where.text
        assert site.key == (key if key not in {"F.dropout", "sdpa"} else f"{where.file}:{where.line}")


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
@pytest.mark.parametrize("way", ["strongest arm", "off", "p = 0"])
def test_a_change_really_turns_it_off_and_nothing_else(model: type[nn.Module], way: str) -> None:
    torch.manual_seed(0)
    ctx = context_of(model)
    sites = ctx.dropout_sites()
    pipeline, bystander = ctx.fresh(0), ctx.fresh(0)
    before = settings_of(bystander.model)
    assert noise(pipeline.model) > 0
    change: Callable[[Pipeline], Any] = {
        "strongest arm": dropout.arms(sites)[-1].apply,
        "off": dropout.off,
        "p = 0": dropout.with_p(sites, 0.0).apply,
    }[way]
    with change(pipeline):
        assert noise(pipeline.model) == 0
    assert settings_of(bystander.model) == before
    assert settings_of(ctx.pipeline.model) == before
    assert noise(bystander.model) > 0, "a change of one pipeline reached another"


def test_arms_go_from_the_mildest_to_none_at_all() -> None:
    sites = [DropoutSite("a", "Dropout2d", 0.3, "feature maps"), DropoutSite("b", "Dropout", 0.5, "head")]
    changes = dropout.arms(sites)
    sizes = [change.size for change in changes]
    assert sizes == sorted(sizes)
    assert changes[-1].factors == {"feature maps": 0.0, "head": 0.0}
    assert {"no dropout: head", "no dropout: feature maps"} <= {change.key for change in changes}


def test_half_of_it_is_half_of_it() -> None:
    ctx = context_of(Maps)
    (site,) = ctx.dropout_sites()
    pipeline = ctx.fresh(0)
    with dropout.scaled([site], {"feature maps": 0.5}, "k", "l").apply(pipeline):
        assert dict(settings_of(pipeline.model))["net.1.p"] == pytest.approx(0.15)


def test_layers_that_never_drop_are_no_sites() -> None:
    class Quiet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.zero, self.unused = nn.Dropout(0.0), nn.Dropout(0.5)
            self.head = nn.Linear(48, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(F.dropout(self.zero(x.flatten(1)), 0.5, training=False))

    ctx = context_of(Quiet)
    assert not ctx.dropout_sites()
    with pytest.raises(Skip, match="no dropout"):
        arms(ctx, "dropout")


@pytest.mark.parametrize(
    ("line", "after"),
    [
        ("nn.Dropout(0.8),", "nn.Dropout(0.4),"),
        ("nn.GRU(8, 8, dropout=drop)", "nn.GRU(8, 8, dropout=drop)  # 0.4 in place of 0.8"),
        ("", "GRU(0.4)"),
    ],
)
def test_the_fix_shows_the_line_of_the_user(line: str, after: str) -> None:
    site = DropoutSite("rnn", "GRU", 0.8, "recurrent", (Where("net.py", 3, line),))
    halved = Arm("k", "l", 0.5, (), (), (), {"recurrent": 0.5})
    assert fix_values(halved, [site])["after"] == f"{after}  # net.py:3"


def test_advice_about_layers_that_are_not_there_is_left_out() -> None:
    def advice(**values: float) -> str:
        view = cause_view(Cause("dropout-too-strong", "REG701", Grade.PROVED, "no signal is left", values))
        return " ".join([*view.takeaways, *view.ladder]).lower()

    recurrent, convolutional = advice(recurrent_p=0.9), advice(feature_maps_p=0.3, head_p=0.5)
    assert "recurrent" in recurrent
    assert "convolution" not in recurrent
    assert "convolution" in convolutional
    assert "recurrent" not in convolutional
    assert "no dropout at all" in advice()
