"""Which earlier run is gone on with, and whose weights are evaluated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from diagnose.config import Config
from diagnose.earlier import best_checkpoint, open_folder
from diagnose.errors import UsageError
from diagnose.store import RunFolder
from probes.results import RunResults
from reports.fold import fold
from reports.load import read_events
from reports.next_steps import next_steps


def _header(config: Config) -> dict[str, Any]:
    return {"command": "train", "target": config.target, "config": config.to_dict()}


def _run(folder: Path, config: Config, *, weights: bool = False, verdict: str | None = None) -> RunFolder:
    run = RunFolder.create(_header(config), project=folder)
    if weights:
        (run.path / "checkpoints").mkdir()
        (run.path / "checkpoints/best_model.pth").touch()
    if verdict is not None:
        run.append({"event": "verdict", "verdict": verdict})
    return run


def test_resume_takes_the_unfinished_run_of_the_same_configuration(tmp_path: Path) -> None:
    config = Config(target="m:f", set=("model.width=3",), resume=True)
    mine = _run(tmp_path, config)
    _run(tmp_path, Config(target="m:g"))
    again = open_folder(_header(Config(**{**vars(config), "budget": 9.0, "epochs": 7})), config, tmp_path)
    assert again.path == mine.path
    assert not again.is_new


@pytest.mark.parametrize(
    ("earlier", "verdict", "message"),
    [
        (Config(target="m:f", seed=3), None, "differs in seed"),
        (Config(target="m:f"), "healthy", "came to its end"),
        (Config(target="m:g"), None, "no unfinished run of diagnose train m:f"),
    ],
)
def test_resume_refuses_any_other_run_and_says_why(
    tmp_path: Path, earlier: Config, verdict: str | None, message: str
) -> None:
    _run(tmp_path, earlier, verdict=verdict)
    config = Config(target="m:f", resume=True)
    with pytest.raises(UsageError, match=message):
        open_folder(_header(config), config, tmp_path)


def test_resume_in_a_folder_of_another_target_is_refused(tmp_path: Path) -> None:
    run = _run(tmp_path, Config(target="m:g"))
    config = Config(target="m:f", resume=True, out=str(run.path))
    with pytest.raises(UsageError, match="holds a run of m:g"):
        open_folder(_header(config), config, tmp_path)


def test_best_weights_are_of_the_same_target_and_model_settings(tmp_path: Path) -> None:
    wide = Config(target="m:f", set=("model.width=3", "optimizer.lr=1"))
    run = _run(tmp_path, wide, weights=True)
    _run(tmp_path, Config(target="m:g"), weights=True)
    _run(tmp_path, wide)
    asked = Config(target="m:f", set=("model.width=3",))
    assert best_checkpoint(asked, tmp_path) == run.path / "checkpoints/best_model.pth"
    assert best_checkpoint(Config(target="m:f"), tmp_path) is None


def test_a_run_in_which_nothing_ran_is_discarded_but_not_one_taken_up_again(tmp_path: Path) -> None:
    config = Config(target="m:f", resume=True)
    run = _run(tmp_path, config)
    open_folder(_header(config), config, tmp_path).discard()
    assert run.path.is_dir()
    run.discard()
    assert not run.path.exists()


@pytest.mark.parametrize(
    ("command", "reproduce", "expected"),
    [
        ("train", "diagnose train m:f --epochs 2 --only --seed 3", "diagnose evaluate m:f --seed 3"),
        (
            "train",
            "diagnose train m:f --only --out 'my x'",
            "diagnose evaluate m:f --checkpoint 'my x/checkpoints/best_model.pth'",
        ),
        ("train", "diagnose train m:f --stop-on plateau", "diagnose evaluate m:f"),
        ("data", "diagnose data --out=x m:f --json", "diagnose run m:f --json"),
    ],
)
def test_the_next_command_has_only_flags_that_it_takes(
    tmp_path: Path, command: str, reproduce: str, expected: str
) -> None:
    config = {"out": "my x"} if "my x" in reproduce else {}
    run = RunFolder.create(
        {"command": command, "target": "m:f", "reproduce": reproduce, "config": config}, project=tmp_path
    )
    run.append({"event": "stage", "stage": {"name": command, "status": "pass", "reason": "", "seconds": 1.0}})
    run.append({"event": "verdict", "verdict": "healthy"})
    results: RunResults = fold(read_events(run.path / "events.jsonl"))
    assert [step.command for step in next_steps(results)] == [expected]


@pytest.mark.parametrize(("grade", "first"), [("suspected", "Go on where it stopped."), ("proved", "Mend the cause")])
def test_a_run_that_was_cut_off_goes_on_in_its_folder(tmp_path: Path, grade: str, first: str) -> None:
    reproduce = "diagnose run m:f --out x --budget 2m"
    run = RunFolder.create({"command": "run", "target": "m:f", "reproduce": reproduce, "config": {}}, project=tmp_path)
    cause = {"name": "stuck-at-chance", "code": "FIT002", "grade": grade, "summary": "It does not learn."}
    run.append({"event": "diagnosis", "diagnosis": {"summary": "", "causes": [cause]}})
    run.append({"event": "verdict", "verdict": "interrupted"})
    step = next_steps(fold(read_events(run.path / "events.jsonl")))[0]
    assert step.text.startswith(first)
    assert step.command == ("diagnose run m:f --out x --resume" if grade == "suspected" else "diagnose run m:f")


def test_a_training_at_chance_level_is_looked_into() -> None:
    cause = {"name": "stuck-at-chance", "code": "FIT002", "grade": "suspected", "summary": "It does not learn."}
    header = {"event": "header", "command": "train", "target": "m:f", "reproduce": "diagnose train m:f --only"}
    results = fold(
        [header, {"event": "diagnosis", "diagnosis": {"causes": [cause]}}, {"event": "verdict", "verdict": "faulty"}]
    )
    assert [step.command for step in next_steps(results)] == ["diagnose bisect m:f"]
