"""The parts of an experiment: dropout found and turned off, trials that repeat, yardsticks, verdicts on curves."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchvision.ops import StochasticDepth

from diagnose import Pipeline
from diagnose.context import MeasuringContext
from diagnose.experiments import dropout, judge
from diagnose.experiments.ablate import ablate
from diagnose.experiments.judge import Learning
from diagnose.experiments.knobs import arms
from diagnose.experiments.trial import AS_CONFIGURED, Change
from diagnose.measure.updates import MiniatureSchedule
from diagnose.training.metrics import smoothing_floor, yardsticks
from probes.api import Skip
from probes.records.trials import DropoutSite, Point, Trace
from probing import context


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# -- models that drop, one way each ----------------------------------------------------------------------------------

CLASSES = 3


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.Dropout(0.4), nn.Linear(8, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Maps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Dropout2d(0.3), nn.Flatten(), nn.Linear(64, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(48, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.dropout(x.flatten(1), 0.5, self.training))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2)
        return self.head(F.scaled_dot_product_attention(x, x, x, dropout_p=0.2 if self.training else 0.0).mean(1))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(16, 8, num_layers=2, batch_first=True, dropout=0.25)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x.flatten(2))[0][:, -1])


class Heads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 2, dropout=0.15, batch_first=True)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2)
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(16, 2, 16, dropout=0.1, batch_first=True)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x.flatten(2)).mean(1))


class Path(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Conv2d(3, 3, 1)
        self.drop = StochasticDepth(0.35, "row")
        self.head = nn.Linear(48, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((x + self.drop(self.branch(x))).flatten(1))


# model -> {site: (kind, p, group, a piece of the line)}
SITES: dict[type[nn.Module], dict[str, tuple[str, float, str, str]]] = {
    Head: {"net.2": ("Dropout", 0.4, "head", "nn.Dropout(0.4)")},
    Maps: {"net.1": ("Dropout2d", 0.3, "feature maps", "nn.Dropout2d(0.3)")},
    Functional: {"F.dropout": ("F.dropout", 0.5, "head", "F.dropout(x.flatten(1)")},
    Attention: {"sdpa": ("F.scaled_dot_product_attention", 0.2, "attention", "dropout_p=0.2")},
    Recurrent: {"lstm": ("LSTM", 0.25, "recurrent", "nn.LSTM(")},
    Heads: {"attention": ("MultiheadAttention", 0.15, "attention", "nn.MultiheadAttention(")},
    Encoder: {
        "layer.self_attn": ("MultiheadAttention", 0.1, "attention", "nn.TransformerEncoderLayer("),
        "layer.dropout": ("Dropout", 0.1, "sequence", "nn.TransformerEncoderLayer("),
        "layer.dropout1": ("Dropout", 0.1, "sequence", "nn.TransformerEncoderLayer("),
        "layer.dropout2": ("Dropout", 0.1, "sequence", "nn.TransformerEncoderLayer("),
    },
    Path: {"drop": ("StochasticDepth", 0.35, "drop-path", "StochasticDepth(0.35")},
}
MODELS = list(SITES)


def data() -> tuple[Tensor, Tensor]:
    """(96, 3, 4, 4) images of three classes that brightness tells apart."""
    generator = torch.Generator().manual_seed(3)
    y = torch.arange(96) % CLASSES
    return torch.randn(96, 3, 4, 4, generator=generator) + y.view(-1, 1, 1, 1), y


def builder(model: type[nn.Module], lr: float = 1e-2, **options: Any) -> Callable[[], Pipeline]:
    def build() -> Pipeline:
        x, y = data()
        net = model()
        train = DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True)
        optimizer = torch.optim.Adam(net.parameters(), lr=lr)
        return Pipeline(
            net, train, DataLoader(TensorDataset(x, y), batch_size=16), nn.CrossEntropyLoss(), optimizer,
            num_classes=CLASSES, **options,
        )  # fmt: skip

    return build


def context_of(model: type[nn.Module], seed: int = 0, **options: Any) -> MeasuringContext:
    return context(builder(model, **options), seed=seed)


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
        assert where.file.endswith("test_experiments.py")
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


# -- trials ----------------------------------------------------------------------------------------------------------


def without_time(trace: Trace) -> Trace:
    points = tuple(replace(point, seconds=0.0) for point in trace.points)
    return replace(trace, seconds=0.0, points=points)


def test_the_same_seed_gives_the_same_trace() -> None:
    first, again = (context_of(Head).trainings.trial(AS_CONFIGURED, 5, 30) for _ in range(2))
    other = context_of(Head).trainings.trial(AS_CONFIGURED, 6, 30)
    assert without_time(first) == without_time(again)
    assert other.losses != first.losses


def test_a_trial_is_run_once_by_change_seed_and_steps() -> None:
    trainings = context_of(Head).trainings
    assert trainings.trial(AS_CONFIGURED, 0, 10) is trainings.trial(AS_CONFIGURED, 0, 10)
    assert trainings.trial(AS_CONFIGURED, 0, 20) is not trainings.trial(AS_CONFIGURED, 0, 10)


def random_states() -> tuple[bytes, Any, Any]:
    numpy_state = np.random.get_state()
    return torch.get_rng_state().numpy().tobytes(), numpy_state[1].tobytes(), random.getstate()  # type: ignore[index]


def measurements(ctx: MeasuringContext) -> dict[str, Callable[[], Any]]:
    return {
        "scan": ctx.scan,
        "reread": lambda: ctx.reread("train"),
        "shared items": ctx.shared_items,
        "attempt": ctx.attempt,
        "outputs": ctx.outputs,
        "evaluate": lambda: ctx.evaluate(lambda inputs: inputs, stirred=True),
        "inspection": ctx.inspection,
        "updates": ctx.updates,
        "moves_loss": lambda: ctx.moves_loss(["net.1.weight"]),
        "jittered gradients": ctx.jittered_gradients,
        "coverage": ctx.coverage,
        "learning rates": ctx.learning_rates,
        "dropout sites": ctx.dropout_sites,
        "fresh model": ctx.fresh_model,
        "overfit": ctx.overfit,
        "trial": lambda: ctx.trainings.trial(AS_CONFIGURED, 1, 10),
        "agreement": lambda: ctx.trainings.gradient_agreement(AS_CONFIGURED),
        "reference": ctx.reference,
    }


@pytest.mark.parametrize("name", list(measurements(context_of(Head))))
def test_a_measurement_leaves_the_generators_alone(name: str) -> None:
    ctx = context_of(Head)
    _ = ctx.pipeline
    before = random_states()
    with suppress(Skip):
        measurements(ctx)[name]()
    assert random_states() == before


def test_measurements_do_not_train_the_pipeline_they_read() -> None:
    ctx = context_of(Head)
    before = {name: value.clone() for name, value in ctx.pipeline.model.state_dict().items()}
    for measure in (ctx.attempt, ctx.updates, ctx.outputs, ctx.inspection, ctx.jittered_gradients):
        measure()
    ctx.trainings.trial(AS_CONFIGURED, 0, 10)
    after = ctx.pipeline.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(p.grad is None for p in ctx.pipeline.model.parameters())


def test_overfit_drops_the_regularisation_and_memorises() -> None:
    trace = context_of(Head).overfit()
    assert (trace.stopped, trace.samples) == ("memorised", 16)


def test_agreement_of_gradients_falls_with_dropout() -> None:
    trainings = context_of(Head).trainings
    assert (noisy := trainings.gradient_agreement(AS_CONFIGURED)) is not None
    clean = trainings.gradient_agreement(Change("none", "no dropout", 1.0, dropout.off))
    assert clean == pytest.approx(1.0)
    assert noisy < 0.99


def test_the_mildest_rate_that_repairs_is_proved_over_the_seeds() -> None:
    ctx = context_of(Head, lr=1e-9)
    found = ablate(ctx, "lr", 60)
    assert found.proved
    assert "learns" not in found.control.outcomes
    assert found.repairing is not None
    assert found.repairing.factors["lr"] > 1
    assert len(found.control.traces) == found.seeds


def test_a_pipeline_that_learns_needs_no_repair() -> None:
    found = ablate(context_of(Head), "lr", 200)
    assert (found.arms, found.repaired, found.proved) == ((), None, False)


# -- judging curves ----------------------------------------------------------------------------------------------------


def trace(losses: list[float], scores: list[float] | None = None, **changes: Any) -> Trace:
    """A trial on 200 samples of ten classes, whose looks had these losses and accuracies."""
    points = [Point(i, loss, None if scores is None else scores[i]) for i, loss in enumerate(losses)]
    made = Trace(
        name="", seed=0, steps=len(losses), losses=losses, points=points, floor=0.0, constant=2.3, chance=0.1,
        samples=200, val_samples=0, classes=10, stopped="steps", seconds=0.0,
    )  # fmt: skip
    return replace(made, **changes)


JUDGED = {
    "flat": (trace([2.31, 2.30, 2.30], [0.1, 0.1, 0.1]), Learning.STUCK),
    "a bad start that comes to chance": (trace([9.0, 3.0, 2.30], [0.1, 0.1, 0.1]), Learning.STUCK),
    "falls and is right": (trace([2.3, 1.5, 0.8], [0.1, 0.5, 0.8]), Learning.LEARNS),
    "hardly": (trace([2.3, 2.25, 2.22], [0.1, 0.15, 0.19]), Learning.SLOW),
    "falls without being right": (trace([2.3, 2.1, 1.9], [0.1, 0.1, 0.1]), Learning.SLOW),
    "learned, then blew up": (trace([2.3, 1.0, 9.0], [0.1, 0.8, 0.1]), Learning.LEARNS),
    "not finite": (trace([2.3], [0.1], stopped="nonfinite"), Learning.NONFINITE),
    "nothing to go by": (trace([5.0, 4.0], floor=None, constant=None, chance=None), Learning.UNKNOWN),
    "a loss of its own that fell": (
        trace([5 - i / 10 for i in range(40)], floor=None, constant=None, chance=None), Learning.LEARNS,
    ),
    "a loss of its own that did not": (
        trace([5 + (-1) ** i for i in range(40)], floor=None, constant=None, chance=None), Learning.UNKNOWN,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(JUDGED))
def test_what_a_curve_comes_to(name: str) -> None:
    made, wanted = JUDGED[name]
    assert judge.judge(made) is wanted


def test_one_good_look_does_not_stop_a_trial() -> None:
    assert judge.stop_when_learned(trace([2.3, 1.0], [0.1, 0.9])) == ""
    assert judge.stop_when_learned(trace([2.3, 2.3, 1.0], [0.1, 0.1, 0.9])) == ""
    assert judge.stop_when_learned(trace([2.3, 1.0, 0.9], [0.1, 0.9, 0.9])) == "learned"


def test_memorised() -> None:
    assert judge.memorised(trace([2.3, 0.01], [0.1, 1.0]))
    assert not judge.memorised(trace([2.3, 2.2], [0.1, 0.2]))
    assert judge.memorised(trace([2.3, 0.01], floor=None, constant=None)) is None
    floor = smoothing_floor(0.1, 10)
    assert judge.memorised(trace([2.3, floor + 0.01], [0.1, 1.0], floor=floor)), "the floor is not zero"


# -- yardsticks -------------------------------------------------------------------------------------------------------


def classes(task: str = "classification", function: str = "cross_entropy", count: int = 10, **options: Any) -> Any:
    return yardsticks(torch.arange(200) % count, task, function, options, count, 20)


def test_chance_is_ln_c() -> None:
    for count in (2, 10, 100):
        yard = classes(count=count)
        assert (yard.floor, yard.classes) == (0.0, count)
        assert yard.constant == pytest.approx(math.log(count))
        assert yard.chance == pytest.approx(1 / count)


def test_smoothing_raises_the_floor() -> None:
    assert smoothing_floor(0.1, 10) == pytest.approx(0.500, abs=5e-4)
    yard = classes(label_smoothing=0.1)
    reached = F.cross_entropy(
        torch.log(torch.eye(10) * 0.9 + 0.01), torch.arange(10), label_smoothing=0.1
    )  # the best prediction there is
    assert yard.floor == pytest.approx(float(reached), abs=1e-5)
    assert yard.constant == pytest.approx(math.log(10))
    assert smoothing_floor(0.0, 10) == 0


def test_a_summed_loss_counts_the_batch() -> None:
    yard = classes(reduction="sum", label_smoothing=0.1)
    assert yard.constant == pytest.approx(20 * math.log(10))
    assert yard.floor == pytest.approx(20 * smoothing_floor(0.1, 10))


def test_class_weights_shift_chance() -> None:
    targets = torch.tensor([0] * 90 + [1] * 10)
    weight = torch.tensor([1.0, 9.0])
    plain = yardsticks(targets, "classification", "cross_entropy", {}, 2, 20)
    weighted = yardsticks(targets, "classification", "cross_entropy", {"weight": weight}, 2, 20)
    assert plain.constant == pytest.approx(-(0.9 * math.log(0.9) + 0.1 * math.log(0.1)))
    logits = torch.zeros(100, 2)
    assert weighted.constant == pytest.approx(float(F.cross_entropy(logits, targets, weight)))
    assert plain.chance == weighted.chance == pytest.approx(0.9)


def test_ignored_targets_count_for_nothing() -> None:
    targets = torch.cat([torch.arange(100) % 4, torch.full((300,), -100)])
    assert yardsticks(targets, "segmentation", "cross_entropy", {}, 4, 20).constant == pytest.approx(math.log(4))


def test_binary_cross_entropy() -> None:
    targets = torch.tensor([[1.0], [0.0], [0.0], [0.0]]).repeat(50, 1)
    yard = yardsticks(targets, "multilabel", "binary_cross_entropy_with_logits", {}, None, 20)
    best = F.binary_cross_entropy(torch.full_like(targets, 0.25), targets)
    assert yard.constant == pytest.approx(float(best))
    assert (yard.floor, yard.chance) == (0.0, pytest.approx(0.75))
    soft = yardsticks(targets * 0.8 + 0.1, "multilabel", "binary_cross_entropy", {}, None, 20)
    assert soft.floor == pytest.approx(-(0.9 * math.log(0.9) + 0.1 * math.log(0.1)), abs=1e-5)


@pytest.mark.parametrize(("function", "center"), [("mse_loss", "mean"), ("l1_loss", "median")])
def test_regression_is_measured_from_the_best_constant(function: str, center: str) -> None:
    targets = torch.tensor([[0.0, 1.0], [1.0, 1.0], [8.0, 4.0]])
    yard = yardsticks(targets, "regression", function, {}, None, 6)
    best = targets.mean(0) if center == "mean" else targets.median(0).values
    assert yard.constant == pytest.approx(float(getattr(F, function)(best.expand_as(targets), targets)))
    assert (yard.floor, yard.chance) == (0.0, None)


def test_a_loss_that_is_not_known_has_no_floor() -> None:
    assert classes(function="").floor is None
    assert classes(function="").chance == pytest.approx(0.1)


# -- the schedule in miniature -------------------------------------------------------------------------------------------


def optimizer_at(*lrs: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in lrs], lr=1.0)


def test_a_warm_up_from_zero_is_played_to_its_peak() -> None:
    planned = [0.1 * i / 500 for i in range(500)] + [0.1] * 500
    optimizer = optimizer_at(0.0)
    optimizer.param_groups[0]["initial_lr"] = 0.1
    schedule = MiniatureSchedule(optimizer, planned, 20)
    played = []
    for step in range(20):
        schedule.set(step)
        played.append(optimizer.param_groups[0]["lr"])
    assert played[0] == 0
    assert played[:10] == sorted(played[:10])
    assert played[-1] == max(played) == pytest.approx(0.1)


def test_groups_keep_their_ratio_and_a_constant_plan_changes_nothing() -> None:
    optimizer = optimizer_at(0.2, 0.02)
    MiniatureSchedule(optimizer, [0.2, 0.1, 0.0], 3).set(1)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1, 0.01])
    still = optimizer_at(0.3)
    MiniatureSchedule(still, [0.1, 0.1], 3).set(2)
    assert still.param_groups[0]["lr"] == 0.3


def test_a_real_warm_up_reaches_its_peak_in_a_trial() -> None:
    def warmed() -> Pipeline:
        pipeline = builder(Head)()
        assert pipeline.optimizer is not None
        pipeline.scheduler = torch.optim.lr_scheduler.LambdaLR(pipeline.optimizer, lambda step: min(1.0, step / 40))
        pipeline.scheduler_interval = "step"
        return pipeline

    ctx = context(warmed)
    assert max(ctx.learning_rates()) == pytest.approx(1e-2)
    assert ctx.learning_rates()[0] == 0
    assert ctx.trainings.trial(AS_CONFIGURED, 0, 200).outcome == "learns"
