"""A slice of the loop zoo; ``benchmarks/loops`` runs all of it over several seeds."""

from __future__ import annotations

from pathlib import Path

import pytest
from watching import plain, watch_source

from .cases import CASES, LOOP_CASES, PART_CASES, Case, healthy, programs
from .lookalikes import LOOKALIKES

# One case for each name; the others are the benchmark's.
SLICE = list({case.name: case for case in LOOP_CASES if case.program != "accelerated"}.values())
PARTS = [case for case in PART_CASES if case.id in {
    "notebook_like-batch-mixing", "main_guard-target-broadcast", "character_model-future-leak",
    "labels_of_many-bce-on-probabilities", "multi_loader-batch-mixing", "quickstart-softmax-before-cross-entropy",
    "long_run-stuck-at-chance",
}]  # fmt: skip

WELL_KNOWN = ("quickstart", "dcgan", "word_model", "trainer_class")  # the manners of four scripts that many follow
HEALTHY = (  # these, and loops that look faulty and are not
    *WELL_KNOWN, "accumulation", "semi_supervised", "actor_critic", "kfold",
    "finetune", "sharpness", "recalibration", "character_model", "tagger", "main_guard", "labels_of_many",
    "half_precision", "multi_loader", "autoencoder",
)  # fmt: skip


@pytest.mark.parametrize("case", SLICE, ids=lambda case: case.id)
def test_a_fault_is_the_answer(case: Case, tmp_path: Path) -> None:
    watched = watch_source(case.source(), tmp_path)
    assert case.name in watched.alarms
    assert watched.answer == case.name
    where = watched.finding(case.name).where
    assert where
    assert where[0].text in case.source()


@pytest.mark.parametrize("case", PARTS, ids=lambda case: case.id)
def test_a_fault_of_a_part_is_the_answer(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["train.py"])
    watched = watch_source(case.source(), tmp_path, parts=True)
    assert watched.answer == case.name


@pytest.mark.parametrize("program", HEALTHY)
def test_the_healthy_twin_raises_no_alarm(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["train.py"])
    watched = watch_source(healthy(program), tmp_path, parts=True)
    assert watched.loop.steps > 0
    assert watched.alarms == {}
    if program in WELL_KNOWN:
        assert watched.output == plain(healthy(program), tmp_path)


LOOKS = [case for case in LOOKALIKES if case.id in {
    "gan-critic frozen for the generator", "engine-LBFGS closure", "folds-weights reset in place of a new model",
    "two_tasks-losses backwarded one by one", "scaled-accumulation averaged by the gradient",
}]  # fmt: skip


@pytest.mark.parametrize("case", LOOKS, ids=lambda case: case.id)
def test_what_looks_like_a_fault_and_is_meant_raises_no_alarm(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # some save what they trained
    watched = watch_source(case.source(), tmp_path, parts=True)
    assert watched.loop.steps > 0
    assert watched.alarms == {}


def test_every_change_fits_its_program() -> None:
    assert len(programs()) >= 30
    assert len(CASES) >= 100
    for case in (*CASES, *LOOKALIKES):
        assert case.source() != healthy(case.program)
