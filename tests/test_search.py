"""The search for what repairs: one fault, two at once, rivals that are crossed, parts, and pipelines that need none."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from faults import adam, mlp, of_digits, sgd
from probing import context
from small_pipelines import digits_cnn, regression
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler
from zoo.programs import dynamics_recommender

from diagnose import Pipeline
from diagnose.errors import UsageError
from diagnose.experiments import parts, schedules
from diagnose.experiments.change import AS_CONFIGURED, Change, Reading, together
from diagnose.experiments.judge import stayed_at_chance
from diagnose.experiments.kept import KeptTrials, fingerprint, from_json
from diagnose.experiments.knobs import KNOBS, arms, scaled_lr
from diagnose.experiments.known_good import known_good
from diagnose.experiments.longer import reaches
from diagnose.experiments.lr_range import judged
from diagnose.experiments.milder import boundary
from diagnose.experiments.order import KNOBS as NAMES
from diagnose.experiments.order import ON_PURPOSE, PARTS, SPEAKS
from diagnose.experiments.search import search as search_for
from diagnose.experiments.trials import Trials, Wanted
from diagnose.experiments.usual import leaves_usual_rates, suspects_first
from diagnose.judging import run_probe
from diagnose.settings import SCHEDULER_CLASSES, SCHEDULERS
from probes.api import Inconclusive, Skip
from probes.learning._curves import proof
from probes.records.trials import Point, Search, Trace
from probes.regularisation.label_smoothing_too_strong import what_is_left
from probes.results import Series, Severity, to_json

STEPS = 250  # of a trial


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def found(build: Callable[[], Pipeline], seed: int = 0) -> Search:
    return search_for(context(build, seed), STEPS)


def proved(search: Search) -> set[str]:
    return {knob for knob, ablation in search.ablations.items() if ablation.proved and not ablation.explained_by}


def dropout_and_rate() -> Pipeline:
    return of_digits(mlp(0.97), adam(1e-6))


def decay_and_rate() -> Pipeline:
    return of_digits(mlp(), sgd(1e-6, weight_decay=3.0))


@pytest.mark.parametrize(
    ("build", "knobs"), [(dropout_and_rate, {"dropout", "lr"}), (decay_and_rate, {"weight-decay", "lr"})]
)
def test_two_faults_at_once_are_both_proved(build: Callable[[], Pipeline], knobs: set[str]) -> None:
    search = found(build)
    assert proved(search) == knobs
    assert all(search.ablations[knob].given for knob in knobs)


def test_a_change_that_only_soothes_is_explained_by_the_one_that_mends() -> None:
    def build() -> Pipeline:
        return digits_cnn(batchnorm=True, model=lambda: with_dropout(0.97), optimizer=sgd(0.05, momentum=0.9))

    search = found(build)
    assert proved(search) == {"dropout"}
    for crossing in search.crossings:
        assert crossing.explains is (search.ablations["lr"].explained_by == crossing.first)


def with_dropout(p: float) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Dropout(p), nn.Flatten(),
        nn.Linear(16 * 64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(p), nn.Linear(64, 10),
    )  # fmt: skip


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    "build",
    [lambda: of_digits(mlp(0.5), adam(1e-3)), lambda: of_digits(mlp(depth=2), sgd(0.1, momentum=0.9)), regression],
    ids=["dropout 0.5", "sgd 0.1", "regression"],
)
def test_a_pipeline_that_learns_convicts_nobody(build: Callable[[], Pipeline], seed: int) -> None:
    search = found(build, seed)
    assert [knob for knob, ablation in search.ablations.items() if ablation.arms] == []
    assert search.everything is None


def test_the_guilty_part_is_what_cannot_be_given_back() -> None:
    class OfTheMean(nn.Module):
        """All samples of a batch get the same scores."""

        def forward(self, output: Tensor, target: Tensor) -> Tensor:
            return nn.functional.cross_entropy(output.mean(0, keepdim=True).expand_as(output), target)

    search = found(lambda: digits_cnn(loss=OfTheMean()))
    assert search.minimal == ("loss",)
    assert search.ablations["loss"].proved


def test_a_comparison_on_purpose_searches_no_further() -> None:
    made: list[str] = []
    ctx = context(lambda: of_digits(mlp(0.97), sgd(1e-9)), 0, keep=lambda key, trace: made.append(trace["name"]))
    ctx.trainings.comparison("dropout", ["0.5"])
    asked = set(made)
    run_probe("dropout-too-strong", ctx)
    assert set(made) == asked == {"as configured", "dropout 0.5 everywhere"}


def test_schedules_go_by_the_names_of_the_training_too() -> None:
    ctx = context(lambda: of_digits(mlp(), adam(1e-3)), 0)
    assert [c.label for c in arms(ctx, "scheduler", ["CosineAnnealingLR", "step"])] == ["cosine", "step"]
    with pytest.raises(UsageError, match=r"Did you mean cosine\?"):
        arms(ctx, "scheduler", ["cosin"])
    assert set(schedules.SCHEDULES) == set(SCHEDULERS) == set(SCHEDULER_CLASSES.values())
    assert set(ON_PURPOSE["scheduler"]) <= set(schedules.NAMES)


def test_a_comparison_that_comes_to_no_end_is_told_as_such() -> None:
    ctx = context(lambda: of_digits(mlp(0.5), adam(1e-3)), 0)
    ctx.deadline = time.monotonic()
    with pytest.raises(Inconclusive, match="time budget"):
        ctx.trainings.comparison("dropout", ["0.5"])
    with pytest.raises(Inconclusive, match="came to no end"):
        ctx.comparison()


def test_the_search_is_the_same_again() -> None:
    first, again = (found(lambda: of_digits(mlp(depth=2), adam(5.0))) for _ in range(2))
    outcomes = [{k: (a.repaired, a.control.outcomes, [x.outcomes for x in a.arms]) for k, a in s.ablations.items()}
                for s in (first, again)]  # fmt: skip
    assert outcomes[0] == outcomes[1]
    assert any(repaired for repaired, *_ in outcomes[0].values())


def slow_start() -> Pipeline:
    return of_digits(mlp(0.6), adam(1e-4), epochs=4_000)


def test_a_slow_start_in_a_long_run_is_told_with_its_factor_and_convicts_nobody() -> None:
    ctx = context(slow_start, 0)
    search = ctx.search()
    assert "learns within" in search.slow_start
    assert "times slower than with no dropout" in search.slow_start
    assert not any(ablation.arms for ablation in search.ablations.values())
    assert run_probe("dropout-too-strong", ctx).findings == ()
    told = run_probe("slow-to-learn", ctx)
    assert all(finding.severity is Severity.NOTE for finding in told.findings)
    assert "times slower" in (told.findings[0].message if told.findings else run_probe("stuck-at-chance", ctx).reason)


def flat_start(epochs: int) -> Pipeline:
    """So small initial weights that the loss stays where it is for some tens of steps, and then falls at once."""
    model = mlp(depth=3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.1)
    return of_digits(model, adam(1e-3), epochs=epochs)


@pytest.mark.parametrize("seed", range(3))
def test_a_flat_start_convicts_nobody_where_the_plan_is_long_enough_to_leave_it(seed: int) -> None:
    steps = 30
    ctx = context(partial(flat_start, 1_000), seed)
    assert stayed_at_chance(ctx.trainings.trial(AS_CONFIGURED, seed, steps))
    later = ctx.trainings.given_longer(steps)
    assert later is not None
    assert later.learns
    search = search_for(ctx, steps)
    assert search.slow_start.startswith("as configured it starts slowly, but ")
    assert not proved(search)


def test_where_no_more_steps_are_planned_a_flat_start_is_not_waited_for() -> None:
    assert context(partial(flat_start, 1), 0).trainings.given_longer(30) is None


def test_what_stays_flat_for_longer_is_convicted_with_the_figure() -> None:
    ctx = context(lambda: of_digits(mlp(), adam(1e-9), epochs=4_000), 0)
    found = search_for(ctx, 50).ablations["lr"]
    assert found.proved
    assert found.waited is not None
    assert found.waited.steps == 150
    arms_drawn = {e.name.rpartition(", seed")[0] for e in proof(found) if isinstance(e, Series)}
    assert "as configured, for longer" in arms_drawn  # no fourth seed of the control


def test_a_change_that_needs_longer_than_a_trial_is_given_as_long_as_the_unchanged_pipeline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever is tried stays at guessing, but without dropout it begins to learn, and has learned in 150 steps."""

    def trial(self: Trials, wanted: Wanted) -> Trace:
        end = 2.3
        if wanted.change.key == "no dropout":
            end = 1.0 if wanted.steps >= 150 else 2.22
        points = [Point(0, 2.3, 0.1), Point(wanted.steps - 1, end, 0.2), Point(wanted.steps, end, 0.2)]
        outcome = {2.3: "stuck", 2.22: "slow", 1.0: "learns"}[end]
        return replace(leaving_chance(2.3, end), points=points, steps=wanted.steps, seed=wanted.seed, outcome=outcome)

    monkeypatch.setattr(Trials, "trial", trial)
    ctx = context(lambda: of_digits(mlp(0.97), adam(1e-3), epochs=4_000), 0)
    monkeypatch.setattr("diagnose.experiments.longer._moves", lambda trace: True)
    found = search_for(ctx, 50).ablations["dropout"]
    assert (found.repaired, found.proved, found.steps) == ("no dropout", True, 150)
    assert [trace.steps for trace in found.control.traces] == [150, 150, 150]


def test_nobody_waits_for_a_training_that_does_not_move() -> None:
    ctx = context(lambda: of_digits(mlp(), sgd(0.0), epochs=4_000), 0)
    assert ctx.trainings.given_longer(50) is None


def leaving_chance(*losses: float) -> Trace:
    points = [Point(100 * look, loss, None) for look, loss in enumerate(losses)]
    share = (losses[0] - losses[-1]) / losses[0]
    end = points[-1].step
    return Trace(
        "as configured", 0, end, (), points, 0.0, losses[0], 0.1, 100, 0, 10, "steps", 0.0, share=share, falling=True
    )


@pytest.mark.parametrize(("planned", "far"), [(1_000, False), (20_000, True)])
def test_leaving_chance_late_is_learning_where_the_plan_is_long_enough(planned: int, far: bool) -> None:
    assert reaches(leaving_chance(4.0, 4.0, 4.0, 4.0, 3.95, 3.9), planned) is far


def test_a_bad_start_that_falls_towards_guessing_has_not_left_chance() -> None:
    trace = replace(leaving_chance(8.0, 7.5, 7.0, 6.5, 6.2, 6.0), constant=2.3, share=-1.6)
    assert not reaches(trace, 20_000)


def plateau(val_labels: Callable[[Tensor], Tensor] = lambda y: y) -> Pipeline:
    """Sigmoids in a row: the loss stays where it is for some hundreds of steps."""
    generator = torch.Generator().manual_seed(0)
    x, v = (torch.randn(n, 16, generator=generator) for n in (1_200, 400))
    teacher = torch.randn(16, 4, generator=generator)
    hidden = [m for i in range(4) for m in (nn.Linear(64 if i else 16, 64), nn.Sigmoid())]
    model = nn.Sequential(*hidden, nn.Linear(64, 4))
    data = [(x, (x @ teacher).argmax(1)), (v, val_labels((v @ teacher).argmax(1)))]
    train, val = (DataLoader(TensorDataset(*pair), 32, shuffle=not i) for i, pair in enumerate(data))
    return Pipeline(
        model, train, val, loss=nn.CrossEntropyLoss(), optimizer=adam(1.5e-4)(model), num_classes=4, epochs=100
    )


@pytest.mark.parametrize("carries_over", [True, False])
def test_what_is_learned_late_must_carry_over_to_validation(carries_over: bool) -> None:
    shuffled = lambda y: y[torch.randperm(len(y), generator=torch.Generator().manual_seed(1))]  # noqa: E731
    ctx = context(plateau if carries_over else partial(plateau, shuffled), 0)
    assert ctx.subset().outcome != "learns"
    assert ctx.learns_later()
    told = [f.name for name in ("stuck-at-chance", "predicts-one-class", "no-generalisation")
            for f in run_probe(name, ctx).findings]  # fmt: skip
    assert told == ([] if carries_over else ["no-generalisation"])


def test_ratings_of_a_part_that_do_not_carry_over_are_tried_with_all_of_them() -> None:
    ctx = context(dynamics_recommender.build, 0)
    assert ctx.subset().trained_on == 1_600
    told = run_probe("no-generalisation", ctx)
    assert told.findings == ()
    assert "better than that of a constant" in told.reason


def test_how_mild_the_repair_may_be_is_found_by_bisection() -> None:
    ctx = context(lambda: of_digits(mlp(0.95), adam(1e-3)), 0)
    halved = next(change for change in arms(ctx, "dropout") if change.key == "dropout x 0.5")
    edge = boundary(ctx, "dropout", halved, steps=600, needed=2, seeds=3)
    assert edge is not None
    mildest, too_much = (float(label.removeprefix("dropout ")) for label in (edge.learns, edge.fails))
    assert 0.475 < mildest < too_much < 0.95


def test_a_repair_that_nothing_milder_replaces_has_no_boundary() -> None:
    ctx = context(lambda: of_digits(mlp(), adam(1e-9)), 0)
    assert boundary(ctx, "lr", scaled_lr(1e4), steps=50, needed=2, seeds=3) is None
    assert boundary(ctx, "initialisation", AS_CONFIGURED, steps=50, needed=2, seeds=3) is None


def heavy_dropout(epochs: int) -> Pipeline:
    """Learns, but in so few epochs gets hardly anywhere."""
    return of_digits(mlp(0.8), adam(1e-3), epochs=epochs)


def test_a_training_that_fails_in_its_planned_run_is_proved_and_one_with_time_is_not() -> None:
    short = run_probe("dropout-too-strong", context(partial(heavy_dropout, 5)))
    assert [(f.severity, f.values["grade"]) for f in short.findings] == [(Severity.ERROR, "proved")], short.reason
    long = run_probe("dropout-too-strong", context(partial(heavy_dropout, 2_000)))
    assert [f for f in long.findings if f.severity is Severity.ERROR] == []


@pytest.mark.parametrize(("smoothing", "said"), [(0.1, []), (0.4, []), (0.9, [Severity.WARNING])])
def test_targets_that_are_all_alike_are_told_though_the_classes_are_still_ranked(
    smoothing: float, said: list[Severity]
) -> None:
    build = lambda: of_digits(mlp(), adam(1e-3), nn.CrossEntropyLoss(label_smoothing=smoothing))  # noqa: E731
    result = run_probe("label-smoothing-too-strong", context(build, 0))
    assert [finding.severity for finding in result.findings] == said


def test_what_smoothing_leaves_to_learn() -> None:
    assert what_is_left(0.0, 10) == pytest.approx(1.0)
    assert what_is_left(1.0, 10) == pytest.approx(0.0)
    assert what_is_left(0.5, 2) == pytest.approx(1 - (0.75 * math.log(4 / 3) + 0.25 * math.log(4)) / math.log(2))


def test_labels_that_were_exchanged_are_not_learned() -> None:
    ctx = context(lambda: of_digits(mlp(), adam(1e-3)), 0)
    (exchanged,) = arms(ctx, "labels")
    assert ctx.trainings.trial(AS_CONFIGURED, 0, 100).outcome == "learns"
    assert ctx.trainings.trial(exchanged, 0, 100).val_above_chance is False


def test_reference_data_are_learned_in_place_of_data_that_cannot_be() -> None:
    g = torch.Generator().manual_seed(0)
    noise = TensorDataset(torch.rand(400, 1, 8, 8, generator=g), torch.randint(0, 10, (400,), generator=g))

    def build() -> Pipeline:
        return of_digits(mlp(), adam(1e-3), loaders=(DataLoader(noise, 32, shuffle=True), DataLoader(noise, 32)))

    ctx = context(build, 0)
    (swapped,) = arms(ctx, "data")
    assert ctx.trainings.trial(swapped, 0, 200).outcome == "learns"
    assert ctx.trainings.trial(AS_CONFIGURED, 0, 50).outcome != "learns"


def test_every_name_has_its_arms_and_every_knob_a_place() -> None:
    assert set(NAMES) == set(KNOBS)
    assert not set(SPEAKS) & set(PARTS)


def test_what_ended_early_is_told_and_nothing_is_decided() -> None:
    ctx = context(dropout_and_rate, 0)
    ctx.deadline = 0.0
    search = ctx.search()
    assert "time budget" in search.cut
    assert proved(search) == set()


def test_a_loader_that_cannot_be_drawn_anew_costs_only_that_swap() -> None:
    data = digits_cnn().train.dataset  # type: ignore[attr-defined]
    sampler = WeightedRandomSampler([1.0] * len(data), len(data))
    ctx = context(lambda: digits_cnn(train=DataLoader(data, 4, sampler=sampler), optimizer=adam(1e-9)), 0)
    with pytest.raises(Skip, match="plain DataLoader"):
        arms(ctx, "batch-size")
    assert arms(ctx, "lr")
    assert ctx.trainings.trial(AS_CONFIGURED, 0, 5).steps == 5


def a_rate_that_is_a_little_too_low() -> Pipeline:
    return of_digits(mlp(), sgd(4e-4, momentum=0.9), epochs=50)


def test_a_slow_start_does_not_excuse_an_unusual_setting() -> None:
    ctx = context(a_rate_that_is_a_little_too_low, 0)
    assert ctx.search().slow_start
    told = run_probe("learning-rate-too-low", ctx)
    assert [finding.severity for finding in told.findings] == [Severity.ERROR], told.reason


def test_an_optimizer_that_cannot_be_built_anew_is_left_alone() -> None:
    class Wrapping(torch.optim.SGD):
        def __init__(self, params: Any, base: str) -> None:
            super().__init__(params, lr=0.1)

    def build() -> Pipeline:
        model = mlp()
        next(iter(model.parameters())).requires_grad_(False)
        return of_digits(model, lambda m: Wrapping([p for p in m.parameters() if p.requires_grad], "sam"))

    with pytest.raises(Skip, match="cannot be built anew"):
        arms(context(build, 0), "frozen")


# -- single changes ---------------------------------------------------------------------------------------------------


def applied(knob: str, build: Callable[[], Pipeline], check: Callable[[Pipeline], Any]) -> Any:
    """What ``check`` sees of a fresh pipeline under the strongest change of a knob."""
    change = arms(context(build, 0), knob)[-1]
    pipeline = build()
    with change.apply(pipeline):
        return check(pipeline)


def test_the_optimizer_becomes_adam_over_what_is_trainable() -> None:
    def build() -> Pipeline:
        pipeline = of_digits(mlp(), sgd(3.0, weight_decay=9.0))
        pipeline.clip_grad_norm = 1e-9
        return pipeline

    seen = applied("optimizer", build, lambda p: (type(p.optimizer), p.optimizer.param_groups, p.clip_grad_norm))
    assert seen[0] is torch.optim.Adam
    assert [group["lr"] for group in seen[1]] == [1e-3]
    assert seen[2] is None


def test_the_initialisation_becomes_the_modules_own() -> None:
    def build() -> Pipeline:
        model = mlp()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
        return of_digits(model, adam(1e-3))

    assert applied("initialisation", build, lambda p: all(bool(w.any()) for w in p.model.parameters()))


def test_the_usual_loss_takes_what_went_into_the_last_softmax() -> None:
    def build() -> Pipeline:
        return of_digits(nn.Sequential(mlp(), nn.Softmax(1)), adam(1e-3))

    ctx = context(build, 0)
    inputs = ctx.batch().inputs[0]
    pipeline = build()
    with parts.loss(ctx, ())[0].apply(pipeline):
        logits = pipeline.model(inputs).detach()
    assert float(logits.min()) < 0
    assert torch.allclose(logits.softmax(1), pipeline.model(inputs).detach())


def test_frozen_parameters_are_released_into_the_optimizer() -> None:
    def build() -> Pipeline:
        model = mlp()
        for parameter in list(model.parameters())[:-1]:
            parameter.requires_grad_(False)
        return of_digits(model, lambda m: torch.optim.SGD([p for p in m.parameters() if p.requires_grad], lr=0.1))

    held = applied("frozen", build, lambda p: (sum(len(g["params"]) for g in p.optimizer.param_groups),
                                                len(list(p.model.parameters()))))  # fmt: skip
    assert held[0] == held[1]


@pytest.mark.parametrize("knob", ["precision", "frozen", "loop", "batchnorm", "clipping", "targets", "channel-order"])
def test_where_there_is_nothing_to_replace_it_is_skipped(knob: str) -> None:
    with pytest.raises(Skip):
        arms(context(lambda: of_digits(mlp(), adam(1e-3)), 0), knob)


def test_batches_of_another_size_are_drawn() -> None:
    ctx = context(lambda: of_digits(mlp(), adam(1e-3)), 0)
    change = arms(ctx, "batch-size", ["7"])[0]
    _, samples = ctx.trainings.on_subset(change)
    assert len(next(samples.batches(0))[1]) == 7


@pytest.mark.parametrize("shape", [(3, 16, 16), (12,), (5, 4)])
def test_the_reference_model_takes_any_shape(shape: tuple[int, ...]) -> None:
    assert parts.reference_model(shape, 7)(torch.randn(4, *shape)).shape == (4, 7)


def test_changes_are_put_together_whatever_their_order() -> None:
    first, second = Change("b", "b", reading=Reading(batch_size=3)), Change("a", "a", options={"x": 1}, order=2)
    both = together([second, first])
    assert both.key == together([first, second]).key == "b + a"
    assert (both.reading.batch_size, both.options) == (3, {"x": 1})
    assert together([]) is AS_CONFIGURED


@pytest.mark.parametrize("name", list(schedules.SCHEDULES))
def test_a_named_schedule_ends_below_where_it_began(name: str) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = schedules.SCHEDULES[name](optimizer, 120)
    for _ in range(120):
        optimizer.step()
        schedule.step(*([1.0] if name == "plateau" else []))
    assert optimizer.param_groups[0]["lr"] < 0.5


@pytest.mark.parametrize(("knob", "value"), [("lr", "fast"), ("scheduler", "Cosine"), ("loss", "0.1")])
def test_a_value_that_cannot_be_meant_is_refused(knob: str, value: str) -> None:
    with pytest.raises(UsageError):
        arms(context(lambda: of_digits(mlp(), adam(1e-3)), 0), knob, [value])


# -- range test, kept trials ------------------------------------------------------------------------------------------


def test_the_range_test_suggests_a_rate_that_learns() -> None:
    ctx = context(lambda: of_digits(mlp(), adam(1e-6)), 0)
    suggested = ctx.learning_rate_range().suggested
    assert suggested is not None
    trace = ctx.trainings.trial(arms(ctx, "lr", [str(suggested)])[0], 0, 200)
    assert trace.outcome == "learns"


def test_a_loss_that_never_falls_gives_no_suggestion() -> None:
    rates = [10.0 ** (i / 20 - 6) for i in range(140)]
    assert judged(rates, [2.3] * 140, 1e-3).suggested is None
    blown = judged(rates, [2.3 - i / 80 for i in range(80)] + [1.3 * 1.3**i for i in range(60)], 1e-3)
    assert blown.suggested is not None
    assert blown.diverges is not None
    assert blown.suggested < blown.diverges


def test_a_kept_trial_comes_back_as_it_was_and_is_not_made_again() -> None:
    kept: dict[str, Any] = {}
    first = context(lambda: of_digits(mlp(), adam(1e-3)), 0, keep=kept.__setitem__)
    trace = first.trainings.trial(AS_CONFIGURED, 3, 30)
    assert [from_json(data) for data in kept.values()] == [trace]
    again = context(lambda: of_digits(mlp(), adam(1e-3)), 0, trials=kept, keep=lambda *_: pytest.fail("made again"))
    assert again.trainings.trial(AS_CONFIGURED, 3, 30) == trace


def test_a_loss_that_json_cannot_hold_is_no_number_again() -> None:
    trace = context(lambda: of_digits(mlp(), adam(1e-3)), 0).trainings.trial(AS_CONFIGURED, 0, 10)
    data = to_json(trace)
    data["losses"][0] = None
    assert math.isnan(from_json(data).losses[0])


def test_another_pipeline_has_another_fingerprint() -> None:
    builds = [
        lambda: of_digits(mlp(), adam(1e-3)), lambda: of_digits(mlp(0.1), adam(1e-3)),
        lambda: of_digits(mlp(), adam(2e-3)), lambda: of_digits(mlp(depth=3), adam(1e-3)),
    ]  # fmt: skip
    prints = [fingerprint(context(build, 0)) for build in builds]
    assert len(set(prints)) == len(prints)
    assert fingerprint(context(builds[0], 0)) == prints[0]


def test_what_was_kept_is_asked_for_by_its_name() -> None:
    kept = KeptTrials({}, lambda *_: None)
    trace = context(lambda: of_digits(mlp(), adam(1e-3)), 0).trainings.trial(AS_CONFIGURED, 0, 5)
    assert kept.once("a", lambda: trace) is trace


def test_a_scale_is_only_turned_where_it_is_unusual() -> None:
    usual = context(lambda: of_digits(mlp(), adam(1e-3)), 0)
    assert not {"inputs", "targets"} & {*suspects_first(usual), *known_good(usual)}
    scaled = partial(digits_cnn, images=lambda x: 500 * x)
    assert "inputs" in suspects_first(context(scaled, 0))
    assert "inputs" in known_good(context(scaled, 0))


def warming(steps: int) -> Pipeline:
    """A warm-up, and a linear decay over the 160 steps of the plan."""
    made = of_digits(mlp(), adam(3e-3), epochs=10)
    assert made.optimizer is not None
    rate = lambda step: min(1.0, (step + 1) / steps) * max(0.05, 1 - step / 160)  # noqa: E731
    made.scheduler = torch.optim.lr_scheduler.LambdaLR(made.optimizer, rate)
    made.scheduler_interval = "step"
    return made


def test_a_schedule_that_never_gets_to_its_rate_is_asked_first() -> None:
    assert suspects_first(context(partial(warming, 1_000_000), 0))[0] == "scheduler"
    assert "scheduler" not in suspects_first(context(partial(warming, 50), 0))


def test_a_warm_up_that_a_decay_overtakes_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diagnose.experiments.short_trainings.SUBSET_STEPS", 120)
    told = run_probe("learns-with-another-part", context(partial(warming, 1_000_000), 0)).findings
    assert [finding.name for finding in told] == ["learns-with-another-part", "warmup-outlasts-training"]
    assert (told[1].severity, told[1].values["grade"]) == (Severity.ERROR, "proved")


@pytest.mark.parametrize(("rate", "factor", "leaves"), [(0.05, 1e4, True), (0.05, 10.0, False), (1e-6, 1e7, False)])
def test_a_usual_rate_is_not_to_blame_where_only_an_unusual_one_repairs(
    rate: float, factor: float, leaves: bool
) -> None:
    ctx = context(lambda: of_digits(mlp(), sgd(rate, momentum=0.9)), 0)
    assert leaves_usual_rates(ctx, factor) is leaves


@pytest.mark.slow
def test_a_target_in_thousands_is_not_blamed_on_a_usual_rate() -> None:
    """Under SGD a rate a hundred thousand times smaller makes up for it, which nobody would set."""

    def build() -> Pipeline:
        x = torch.randn(256, 6, generator=torch.Generator().manual_seed(0))
        y = 20_000 + 6_000 * x @ torch.tensor([[1.0], [-0.5], [0.3], [0.0], [0.7], [0.2]])
        model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 1))
        return Pipeline(
            model=model, train=DataLoader(TensorDataset(x, y), 32, shuffle=True), loss=nn.MSELoss(),
            optimizer=torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9), epochs=20,
        )  # fmt: skip

    search = found(build)
    assert proved(search) == {"targets"}
    assert search.ablations["lr"].explained_by or search.ablations["lr"].repaired is None
