"""What an unusual setting holds back: how much is left to learn, and which parts and groups are asked about."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from faults import mlp, of_digits, sgd
from probing import context
from small_pipelines import digits_cnn, shifted
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader

from diagnose import Pipeline
from diagnose.experiments import relief
from diagnose.experiments.behind import far_behind
from diagnose.experiments.change import AS_CONFIGURED
from diagnose.experiments.knobs import arms
from diagnose.experiments.trial import run_trial
from diagnose.experiments.usual import is_unusual, odd_group
from diagnose.judging import run_probe
from probes.api import Skip
from probes.learning._curves import WORDS, in_words
from probes.records.trials import Point, Trace
from probes.results import Severity


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def going(*scores: float, stopped: str = "steps") -> Trace:
    """Validation accuracies, look after look, where guessing is right once in ten times."""
    points = [Point(100 * look, 1.0, score, 1.0, score) for look, score in enumerate(scores)]
    return Trace("", 0, 100 * len(scores), (), points, 0.0, 2.3, 0.1, 500, 500, 10, stopped, 0.0)


GOOD = [going(0.1, 0.8, 0.92), going(0.1, 0.8, 0.93), going(0.1, 0.8, 0.90)]


@pytest.mark.parametrize(
    ("before", "longer", "said"),
    [
        ([going(0.1, 0.7, 0.7), going(0.1, 0.65, 0.65), going(0.1, 0.72, 0.71)], 1.0, True),
        ([going(0.1, 0.7, 0.7), going(0.1, 0.65, 0.65), going(0.1, 0.72, 0.71)], 20.0, True),
        ([going(0.1, 0.4, 0.7), going(0.1, 0.4, 0.7), going(0.1, 0.4, 0.7)], 3.0, False),  # on its way
        ([going(0.1, 0.7, 0.7), going(0.1, 0.65, 0.65), going(0.1, 0.9, 0.90)], 1.0, False),  # not with every seed
        ([going(0.1, 0.8, 0.84), going(0.1, 0.8, 0.84), going(0.1, 0.8, 0.84)], 1.0, False),  # less than twice
        ([going(0.1, stopped="nonfinite")] * 3, 1.0, True),
    ],
)
def test_what_is_left_must_be_twice_as_much_for_good(before: Sequence[Trace], longer: float, said: bool) -> None:
    assert far_behind(before, GOOD, longer) is said


@pytest.mark.parametrize(("longer", "said"), [(1.0, True), (2.0, False)])
def test_a_third_of_what_can_be_learned_is_little_however_far_the_best_is(longer: float, said: bool) -> None:
    assert far_behind([going(0.1, 0.12, 0.15)] * 3, [going(0.1, 0.3, 0.4)] * 3, longer) is said


def test_a_small_remainder_convicts_nobody_though_it_is_twice_as_much() -> None:
    assert not far_behind([going(0.1, 0.9, 0.96)] * 3, [going(0.1, 0.95, 0.99)] * 3, 1.0)


def two_groups(first: float, second: float, *, cosine: bool = False, **more: Any) -> Pipeline:
    model = mlp()
    body, head = list(model.parameters())[:-2], list(model.parameters())[-2:]
    optimizer = torch.optim.Adam([{"params": body, "lr": first}, {"params": head, "lr": second}])
    schedule = CosineAnnealingLR(optimizer, 10) if cosine else None
    return of_digits(model, lambda _: optimizer, scheduler=schedule, epochs=10, **more)


@pytest.mark.parametrize(("first", "second", "place"), [(1e-3, 3.0, 1), (1e-9, 1e-3, 0)])
def test_a_group_at_another_rate_than_the_others_is_brought_to_theirs(first: float, second: float, place: int) -> None:
    ctx = context(partial(two_groups, first, second))
    odd = odd_group(ctx)
    assert odd is not None
    assert (odd.place, odd.usual) == (place, pytest.approx(1e-3))
    change = arms(ctx, "lr")[0]
    pipeline = two_groups(first, second)
    with change.apply(pipeline):
        assert pipeline.optimizer is not None
        assert [group["lr"] for group in pipeline.optimizer.param_groups] == pytest.approx([1e-3, 1e-3])


def test_the_schedule_goes_with_the_rate_of_the_group() -> None:
    ctx = context(partial(two_groups, 1e-3, 3.0, cosine=True))
    setting, samples = ctx.trainings.on_subset()
    rates = [point.lr or 0.0 for point in run_trial(setting, samples, arms(ctx, "lr")[0], 0, 12).points[1:]]
    assert max(rates) == pytest.approx(1e-3, rel=0.1)
    assert rates[-1] < 0.2e-3


@pytest.mark.parametrize(
    "build",
    [
        partial(two_groups, 1e-3, 1e-4),
        partial(two_groups, 0.0, 1e-3),  # frozen by its rate: somebody else's question
        partial(two_groups, 3.0, 5.0),  # none is usual
        lambda: two_groups(1e-7, 1e-3, intents=("pretrained",)),
    ],
)
def test_groups_that_may_well_differ_do_not_stand_out(build: Callable[[], Pipeline]) -> None:
    assert odd_group(context(build)) is None


def test_the_group_to_blame_is_named_with_its_own_rate() -> None:
    ctx = context(partial(two_groups, 3.0, 1e-3))
    (finding,) = run_probe("learning-rate-too-high", ctx).findings
    assert finding.severity is Severity.ERROR
    assert (finding.values["grade"], finding.values["now"]) == ("proved", pytest.approx(3.0))
    assert finding.values["change"] == "lr 0.001 in parameter group 0"


def full_batches() -> dict[str, Any]:
    return {"train": DataLoader(digits_cnn().train.dataset, 512, shuffle=True)}  # type: ignore[attr-defined]


def test_a_full_batch_of_few_steps_is_compared_over_as_many_epochs() -> None:
    full = context(lambda: digits_cnn(**full_batches(), optimizer=sgd(0.05, momentum=0.9), epochs=8))
    assert is_unusual(full, "batch-size")
    told = full.trainings.relief("batch-size")
    assert (told.steps, told.steps_after) == (8, 128)
    assert told.decisive
    (finding,) = run_probe("learns-with-another-part", full).findings
    assert (finding.severity, finding.values["part"]) == (Severity.NOTE, "batch-size")
    assert not is_unusual(context(lambda: digits_cnn(**full_batches(), epochs=500)), "batch-size")


@pytest.mark.parametrize(("epsilon", "unusual"), [(1e-8, False), (1e-4, False), (10.0, True)])
def test_only_a_large_epsilon_is_turned(epsilon: float, unusual: bool) -> None:
    ctx = context(lambda: of_digits(mlp(), lambda m: torch.optim.Adam(m.parameters(), lr=1e-3, eps=epsilon)))
    assert is_unusual(ctx, "epsilon") is unusual
    if not unusual:
        with pytest.raises(Skip, match="usual"):
            arms(ctx, "epsilon")
        return
    assert [change.label for change in arms(ctx, "epsilon")] == ["epsilon 1e-08"]


@pytest.mark.parametrize("optimizer", [torch.optim.Adagrad, torch.optim.Adadelta])
def test_the_rates_of_other_optimizers_are_their_own(optimizer: Any) -> None:
    usual = {torch.optim.Adagrad: 0.05, torch.optim.Adadelta: 1.0}[optimizer]
    assert not is_unusual(context(lambda: of_digits(mlp(), lambda m: optimizer(m.parameters(), lr=usual))), "lr")


def test_augmentation_is_told_with_the_line_of_its_transform() -> None:
    ctx = context(lambda: digits_cnn(transform=shifted))
    (where,) = arms(ctx, "augmentation")[0].where
    assert where.file.endswith("small_pipelines.py")
    assert "def shifted" in where.text


def test_a_loss_that_stayed_at_chance_has_not_hardly_learned() -> None:
    assert in_words("slow", 0.01) == in_words("stuck", 0.0) == "no"
    assert in_words("slow", 0.03) == "hardly"
    assert WORDS["learns"] == in_words("learns", None)


@pytest.mark.parametrize(("waited", "convicted"), [(going(0.2, 0.5, 0.7), False), (going(0.11, 0.11, 0.12), True)])
def test_a_long_run_is_waited_for_before_it_is_convicted(
    monkeypatch: pytest.MonkeyPatch, waited: Trace, convicted: bool
) -> None:
    """Hardly anything within a trial; after three it is well on its way, or it is not."""
    ctx = context(lambda: of_digits(mlp(), sgd(5e-4, momentum=0.9), epochs=100))

    def ended(ctx: Any, side: Any, seed: int) -> Trace:
        if side.change is not AS_CONFIGURED:
            return going(0.1, 0.9, 0.99)
        return going(0.1, 0.11, 0.11) if side.steps == 600 else waited

    monkeypatch.setattr(relief, "_ended", ended)
    monkeypatch.setattr(ctx.trainings, "given_longer", lambda: None)
    if convicted:
        assert relief.relief(ctx, "lr", 600).decisive
    else:
        with pytest.raises(Skip, match="times as long"):
            relief.relief(ctx, "lr", 600)


def test_a_slow_rate_that_many_take_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = context(lambda: of_digits(mlp(), sgd(1e-3), epochs=40))
    learned = replace(ctx.trainings.trial(AS_CONFIGURED, 0, 20), outcome="learns", share=0.3)
    monkeypatch.setattr(ctx.trainings, "trial", lambda *args, **more: learned)
    fallen = [replace(point, val_loss=1.0 - 0.4 * look) for look, point in enumerate(going(0.1, 0.9, 0.99).points)]
    ended = lambda ctx, side, seed: (  # noqa: E731
        going(0.1, 0.11, 0.2) if side.change is AS_CONFIGURED else replace(going(), points=fallen)
    )
    monkeypatch.setattr(relief, "_ended", ended)
    (finding,) = run_probe("learning-rate-too-low", ctx).findings
    assert finding.severity is Severity.NOTE
    assert not run_probe("learning-rate-too-high", ctx).findings
