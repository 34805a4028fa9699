"""The command line from end to end: exit codes, results, what is printed where."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import command_line
import pytest
from command_line import project, run, runs

from diagnose.config import Config
from diagnose.execute import exit_code
from probes.results import Finding, Result, RunResults, Severity, Status, Verdict

slow = pytest.mark.slow  # starts a worker, which imports torch
TARGET = "digits_cnn:get_model"
TRAINING = "figures/curves.png", "checkpoints/best_model.pth", "checkpoints/latest_checkpoint.pth", "report.md"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A digits project in which two epochs have run, over the whole course of a run."""
    folder = project("digits", tmp_path_factory.mktemp("digits"))
    done = run("run", TARGET, "--epochs", "2", "--set", "model.width=6", cwd=folder)
    assert done.code == 0, done.err
    return folder


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    return project("digits", tmp_path)


# -- usage errors ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["smok"], "No such command 'smok'"),
        (["smoke"], "no target was given"),
        (["evaluate", "--epochs", "3"], "--epochs is an option of diagnose train and run only. Leave it out here."),
        (["smoke", "--sed", "1", TARGET], "--seed"),
        (["smoke", "--seed", "x", TARGET], "--seed"),
        (["smoke", "--seed", "-1", TARGET], "expected a whole number from 0 up"),
        (["smoke", "--seed"], "--seed"),
        (["smoke", TARGET, "again"], "unexpected extra argument"),
        (["smoke", "digits_cnn"], "module:attribute"),
        (["smoke", TARGET, "--budget", "soon", "--device", "tpu"], "expected seconds or a duration"),
        (["smoke", TARGET, "--select", "dropuot"], "Did you mean dropout-too-strong"),
        (["smoke", TARGET, "--set", "modle.width=3"], "Did you mean model?"),
        (["run", TARGET, "--from", "sbuset"], "Did you mean subset?"),
        (["run", TARGET, "--from", "subset", "--until", "data"], "lies behind"),
        (["train", TARGET, "--resume"], "no unfinished run"),
        (["train", TARGET, "--stop-on", "plataeu"], "Did you mean plateau?"),
        (["ablate", TARGET], "--knob: none was given"),
        (["ablate", TARGET, "--knob", "dropot"], "Did you mean dropout?"),
        (["report"], "there is no run"),
        (["smoke", "digits_cnn.py"], "diagnose watch digits_cnn.py"),
        (["compare", "latest"], "there is no run"),
        (["explain", "droput"], "Did you mean dropout-too-strong"),
        (["demo", "helthy"], "Did you mean healthy?"),
    ],
)
def test_a_usage_error_is_one_short_message(digits: Path, arguments: list[str], message: str) -> None:
    done = run(*arguments, cwd=digits)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert len(done.err.splitlines()) <= 5
    assert runs(digits) == []


@slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["smoke", "digits_cn:get_model"], "Did you mean digits_cnn?"),
        (["smoke", "digits_cnn.py:get_modl"], "Did you mean get_model?"),
        (["smoke", TARGET, "--set", "widht=3"], "Did you mean width?"),
        (["smoke", TARGET, "--device", "cuda:99"], "--device cuda:99"),
        (["overfit", "without_data.py:get_model"], "--data"),
    ],
)
def test_a_usage_error_of_the_target_leaves_no_run(digits: Path, arguments: list[str], message: str) -> None:
    project("without_data.py", digits)
    done = run(*arguments, cwd=digits)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert len(done.err.splitlines()) == 1, done.err
    assert runs(digits) == []


@slow
def test_a_usage_error_leaves_the_given_folder_empty(digits: Path) -> None:
    (digits / "mine").mkdir()
    assert run("smoke", "digits_cnn:get_modl", "--out", "mine", cwd=digits).code == 2
    assert list((digits / "mine").iterdir()) == []


def test_all_configuration_problems_are_told_at_once(digits: Path) -> None:
    (digits / "diagnose.toml").write_text('sede = 1\ndevice = "tpu"\n')
    done = run("smoke", TARGET, "--budget", "soon", "--fail-on", "notes", cwd=digits)
    assert done.code == 2
    assert len(done.err.splitlines()) == 4
    assert "Did you mean seed?" in done.err


def test_help_for_nothing_and_for_everything(tmp_path: Path) -> None:
    alone, asked = run(cwd=tmp_path), run("--help", cwd=tmp_path)
    assert (alone.code, asked.code) == (2, 0)
    assert "Usage: " in alone.out + alone.err
    for name in ("smoke", "gate", "ablate", "report", "explain", "init"):
        assert f" {name} " in asked.out
    assert run("smoke", "--help", cwd=tmp_path).code == 0
    assert run("--version", cwd=tmp_path).out.startswith("torch-diagnose ")


# -- the stages, and what comes of them -------------------------------------------------------------------------------


@slow
def test_a_run_from_end_to_end(trained: Path) -> None:
    folder = runs(trained)[0]
    results = json.loads((folder / "results.json").read_text())
    assert results["verdict"] == "healthy"
    assert [s["status"] for s in results["stages"]] == ["pass"] * 7
    assert [row["epoch"] for row in results["training"]["history"]] == [1, 2]
    assert results["evaluation"]["accuracy"] > 0.5
    assert results["evaluation"]["checkpoint"] == "checkpoints/best_model.pth"
    assert all((folder / name).is_file() for name in TRAINING)


@slow
def test_evaluate_takes_the_newest_weights_of_the_target_and_says_which(trained: Path) -> None:
    done = run("evaluate", TARGET, "--set", "model.width=6", "--out", "evaluated", cwd=trained)
    assert done.code == 0
    expected = runs(trained)[0].relative_to(trained) / "checkpoints/best_model.pth"
    assert done.results["evaluation"]["checkpoint"] == expected.as_posix()
    assert expected.as_posix() in done.err


@slow
def test_evaluate_with_weights_of_another_model_is_a_usage_error(trained: Path) -> None:
    weights = runs(trained)[0] / "checkpoints/best_model.pth"
    done = run(
        "evaluate", TARGET, "--checkpoint", str(weights), "--set", "model.width=4", "--out", "misfit", cwd=trained
    )
    assert done.code == 2
    assert "best_model.pth" in done.err


@slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["data", "digits_cnn:get_pipeline"],
        ["overfit", "digits_cnn:get_pipeline", "--set", "lr=0.002", "--seed", "3"],
        ["mnist", TARGET, "--only", "--reference", "digits"],
        ["subset", "digits_cnn:get_pipeline", "--only", "--fraction", "0.5"],
        ["smoke", "digits_cnn:model", "--in-process", "--verbose"],
        ["data", "digits_cnn.py:get_model", "--only", "--select", "DAT", "--ignore", "class-imbalance"],
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_stages_of_a_healthy_project(digits: Path, arguments: list[str]) -> None:
    done = run(*arguments, "--json", cwd=digits)
    assert done.code == 0, done.err
    assert json.loads(done.out) == done.results
    assert done.results["verdict"] == "healthy"
    assert done.status(arguments[0]) == "pass"
    assert not any(r["status"] in ("internal", "crashed") for r in done.results["results"])
    if "--select" in arguments:
        assert "class-imbalance" not in {r["name"] for r in done.results["results"]}
        assert {r["code"][:3] for r in done.results["results"]} == {"DAT"}


@slow
def test_keep_going_after_a_stage_that_failed(digits: Path) -> None:
    stages = ("--from", "smoke", "--until", "mnist", "--keep-going", "--quiet")
    done = run("run", "digits_cnn:get_probabilities", *stages, cwd=digits)
    assert (done.code, done.err) == (1, "")
    assert done.causes[0] == "softmax-before-cross-entropy"
    assert done.status("smoke") == "fail"
    assert done.status("mnist") != "skipped"


@slow
def test_a_run_that_ends_before_the_training_tells_what_was_expected_of_it(tmp_path: Path) -> None:
    (tmp_path / "nan.py").write_text(
        "import torch\nfrom torch import nn\nfrom torch.utils.data import DataLoader, TensorDataset\n"
        "from diagnose import Pipeline\n"
        "def get_pipeline():\n"
        "    data = TensorDataset(torch.full((64, 4), torch.nan), torch.arange(64) % 2)\n"
        "    loader = DataLoader(data, 16, shuffle=True)\n"
        "    return Pipeline(nn.Linear(4, 2), loader, loader, expected=[(3, 'accuracy', 0.6, 0.7)])\n"
    )
    done = run("run", "nan.py:get_pipeline", cwd=tmp_path)
    assert done.code == 1
    assert done.status("train") == "skipped"
    assert [row["low"] for row in done.results["training"]["expected"]] == [0.6]
    assert "60 % to 70 %" in (done.folder / "report.md").read_text()


@slow
def test_the_plan_runs_nothing(digits: Path) -> None:
    done = run("run", TARGET, "--plan", cwd=digits)
    assert done.code == 0
    _, *stages, experiments, total = done.out.splitlines()
    assert [line.split()[0] for line in stages] == [
        "data", "smoke", "mnist", "overfit", "subset", "train", "evaluate",
    ]  # fmt: skip
    assert all("up to" in line for line in stages if line.split()[0] in {"mnist", "overfit", "subset", "train"})
    assert "experiments" in experiments
    assert total.startswith("In all up to ")
    assert runs(digits) == []


@slow
def test_a_budget_that_ends_early_is_inconclusive(digits: Path) -> None:
    done = run("train", "digits_cnn:get_slow_model", "--only", "--epochs", "500", "--budget", "8s", cwd=digits)
    assert done.code == 0
    assert done.results["verdict"] == "inconclusive"
    assert "inconclusive" in done.err


@slow
def test_an_interrupt_saves_what_there_is_and_resume_goes_on(digits: Path) -> None:
    arguments = ("train", "digits_cnn:get_slow_model", "--only", "--epochs", "4")
    process = command_line.start(*arguments, cwd=digits)
    _wait_for_epochs(digits, 1)
    process.send_signal(2)
    done = command_line.finish(process, digits)
    assert done.code == 130
    assert done.results["verdict"] == "interrupted"
    before = len(done.results["training"]["history"])
    assert before >= 1
    report = run("report", cwd=digits)
    assert (report.code, report.err) == (0, "")
    assert "interrupted" in report.out.lower()
    again = run(*arguments, "--resume", cwd=digits)
    assert again.code == 0, again.err
    assert again.folder == done.folder
    assert (again.folder / "figures" / "samples.png").is_file()
    assert [row["epoch"] for row in again.results["training"]["history"]] == [1, 2, 3, 4]
    ended = run(*arguments, "--resume", cwd=digits)
    assert ended.code == 2
    assert "came to its end" in ended.err


def _wait_for_epochs(folder: Path, count: int) -> None:
    import time

    end = time.monotonic() + 60
    while time.monotonic() < end:
        for run_folder in runs(folder):
            events = run_folder / "events.jsonl"
            if events.is_file() and events.read_text().count('"event": "epoch"') >= count:
                return
        time.sleep(0.05)
    raise AssertionError("no epoch came to its end")


# -- other layouts ----------------------------------------------------------------------------------------------------


@slow
def test_a_project_of_three_files_by_configuration(tmp_path: Path) -> None:
    done = run("smoke", "--set", "optimizer.lr=0.01", cwd=project("layout", tmp_path))
    assert done.code == 0, done.err
    assert done.results["target"] == "models:get_model"
    assert {"models.py", "dataset_utils.py"} <= set(done.results["pipeline"]["files"])
    assert done.results["pipeline"]["param_groups"][0]["lr"] == 0.01
    assert (done.results["pipeline"]["batch_size"], done.results["pipeline"]["num_classes"]) == (50, 10)


@slow
def test_a_project_of_three_files_by_flags(tmp_path: Path) -> None:
    (project("layout", tmp_path) / "pyproject.toml").unlink()
    base = ["smoke", "models:get_model", "--only", "--data", "dataset_utils:get_dataset_loaders"]
    base += ["--optimizer", "training_utils:get_optimizer"]
    lacking = run(*base, cwd=tmp_path)
    assert lacking.code == 2
    for setting in ("model.name", "data.batch_size", "optimizer.name"):
        assert f"--set {setting}=" in lacking.err
    settings = [
        "model.name=deeper_wider",
        "data.name=toy",
        "data.batch_size=50",
        "data.num_workers=0",
        "optimizer.name=SGD",
    ]
    done = run(*base, *(part for text in [*settings, "optimizer.lr=0.1"] for part in ("--set", text)), cwd=tmp_path)
    assert done.code == 0, done.err
    assert done.results["pipeline"]["optimizer"].startswith("SGD")


@slow
def test_a_project_with_its_own_probes_and_reports(tmp_path: Path) -> None:
    project("shadowing", tmp_path)
    done = run("smoke", "ours:get_model", "--set", "data.workers=1", cwd=tmp_path)
    assert done.code == 0, done.err
    assert done.results["verdict"] == "healthy"
    assert run("report", cwd=tmp_path).code == 0
    refused = run("smoke", "ours:get_model", "--in-process", cwd=tmp_path)
    assert refused.code == 2
    assert "'probes'" in refused.err


@slow
def test_a_model_without_data(tmp_path: Path) -> None:
    project("without_data.py", tmp_path)
    done = run("smoke", "without_data.py:get_model", "--input", "3x16x16", cwd=tmp_path)
    assert done.status("smoke") == "pass"
    gate = run("gate", "without_data.py:get_model", cwd=tmp_path)
    assert gate.code == 1
    assert gate.results["verdict"] == "inconclusive"
    assert gate.status("overfit") == "skipped"


# -- verdicts and exit codes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdict", "severity", "config", "command", "code"),
    [
        (Verdict.HEALTHY, Severity.WARNING, Config(), "smoke", 0),
        (Verdict.HEALTHY, Severity.WARNING, Config(fail_on="warning"), "smoke", 1),
        (Verdict.HEALTHY, Severity.NOTE, Config(fail_on="warning"), "smoke", 0),
        (Verdict.FAULTY, Severity.ERROR, Config(), "gate", 1),
        (Verdict.INCONCLUSIVE, Severity.NOTE, Config(), "run", 0),
        (Verdict.INCONCLUSIVE, Severity.NOTE, Config(), "gate", 1),
        (Verdict.INCONCLUSIVE, Severity.NOTE, Config(allow_inconclusive=True), "gate", 0),
        (Verdict.INTERRUPTED, Severity.ERROR, Config(), "gate", 130),
    ],
)
def test_exit_codes(verdict: Verdict, severity: Severity, config: Config, command: str, code: int) -> None:
    result = Result("REG701", "dropout-too-strong", "smoke", Status.PASS, "", (Finding("x", severity, "m"),))
    assert exit_code(RunResults("", "", command, "", "", "", verdict, results=(result,)), config, command) == code


# -- gate, reports and the rest ---------------------------------------------------------------------------------------


@slow
def test_the_gate_annotates_and_writes_junit(digits: Path) -> None:
    done = run("gate", "digits_cnn:get_probabilities", cwd=digits, GITHUB_ACTIONS="true")
    assert done.code == 1
    errors = [line for line in done.out.splitlines() if line.startswith("::error")]
    assert any("softmax-before-cross-entropy" in line for line in errors)
    suites = ElementTree.parse(done.folder / "junit.xml").getroot()
    assert done.status("overfit") == "skipped"
    failed = {case.get("name") for case in suites.iter("testcase") if case.find("failure") is not None}
    assert "softmax-before-cross-entropy" in failed


@slow
def test_reports_in_every_format_and_compare(trained: Path) -> None:
    ident = runs(trained)[0].name
    formats = {name: run("report", ident, "--format", name, cwd=trained) for name in ("md", "json", "junit", "github")}
    assert {name: done.code for name, done in formats.items()} == dict.fromkeys(formats, 0)
    assert formats["md"].out.startswith("# ")
    assert json.loads(formats["json"].out)["run_id"] == ident
    assert ElementTree.fromstring(formats["junit"].out).tag == "testsuites"
    assert run("report", ident, "--format", "html", cwd=trained).code == 2
    assert ident in run("compare", ident, "latest", cwd=trained).out


def test_explain_and_probes(tmp_path: Path) -> None:
    listing = run("probes", cwd=tmp_path)
    assert listing.code == 0
    assert "dropout-too-strong" in listing.out
    by_name, by_code = run("explain", "dropout-too-strong", cwd=tmp_path), run("explain", "REG701", cwd=tmp_path)
    assert by_name.out == by_code.out
    assert by_name.out.startswith("dropout-too-strong")


@slow
def test_what_init_writes_runs(tmp_path: Path) -> None:
    written = run("init", cwd=tmp_path)
    assert written.code == 0
    text = (tmp_path / "diagnose_target.py").read_bytes()
    assert run("init", cwd=tmp_path).code == 2
    assert (tmp_path / "diagnose_target.py").read_bytes() == text
    done = run("smoke", "diagnose_target.py:get_model", cwd=tmp_path)
    assert (done.code, done.results["verdict"]) == (0, "healthy")
    lines = run("init", "--assertions", "diagnose_target.py:get_model", "--quiet", cwd=tmp_path)
    assert lines.code == 0
    assert all(line.startswith(("assert ", "#", "import ", "x", "y")) or not line for line in lines.out.splitlines())
    assert "assert " in lines.out


@slow
def test_ablate_blames_nothing_where_the_model_learns(digits: Path) -> None:
    done = run("ablate", TARGET, "--knob", "lr", "--values", "0.002", cwd=digits)
    assert (done.code, done.results["verdict"], done.causes) == (0, "healthy", [])
    assert "lr 0.002" in done.out


@slow
def test_ablate_a_model_without_the_knob_is_inconclusive(digits: Path) -> None:
    done = run("ablate", TARGET, "--knob", "dropout", cwd=digits)
    assert done.code == 0
    assert done.results["verdict"] == "inconclusive"
