"""User code that ends, cripples or blocks its process, through the whole command line."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from command_line import project, run

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("lethal.py", "exits_at_import.py", "fails_at_import.py"):
        project(name, tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("kill", "finding"),
    [
        ("mistake", "user-code-error"),
        ("segfault", "worker-crashed"),
        ("hard_exit", "worker-crashed"),
        ("soft_exit", "user-code-error"),
        ("sigkill", "worker-crashed"),
        ("close_descriptors", "worker-crashed"),
        ("hang", "hung"),
    ],
)
def test_a_forward_that_ends_its_process(folder: Path, kill: str, finding: str) -> None:
    limit = ("--hang-after", "5s") if kill == "hang" else ()
    done = run("smoke", "lethal:get_model", "--only", "--set", f"kill={kill}", *limit, cwd=folder)
    assert done.code == 1
    assert done.causes == [finding]
    assert (done.status("smoke"), done.status("user-code-error")) == ("crashed", "crashed")
    others = {r["status"] for r in done.results["results"] if r["name"] != "user-code-error"}
    assert others <= {"pass", "skipped"}  # the rest goes on, in a fresh worker
    assert "pass" in others
    assert all(r["reason"] for r in done.results["results"] if r["status"] != "pass")


def test_a_model_that_dies_is_no_fault_of_the_data(folder: Path) -> None:
    done = run("smoke", "lethal:get_model", "--set", "kill=segfault", cwd=folder)
    assert (done.status("data"), done.status("smoke")) == ("pass", "crashed")
    where = done.results["diagnosis"]["causes"][0]["where"]
    assert [(place["file"], place["text"]) for place in where] == [("lethal.py", "ctypes.string_at(0)")]


@pytest.mark.parametrize("kill", ["chatter", "grandchildren"])
def test_what_is_only_a_nuisance_does_no_harm(folder: Path, kill: str) -> None:
    done = run("smoke", "lethal:get_model", "--only", "--set", f"kill={kill}", "--json", cwd=folder)
    assert (done.code, done.results["verdict"]) == (0, "healthy")
    assert done.out.startswith("{")
    assert "xxx" not in done.err


@pytest.mark.parametrize(("kill", "finding"), [("hang", "hung"), ("hard_exit", "unreadable-sample")])
def test_a_loader_worker_that_hangs_or_dies(folder: Path, kill: str, finding: str) -> None:
    settings = ("--set", f"data.kill={kill}", "--set", "data.workers=1", "--hang-after", "5s")
    begin = time.monotonic()
    done = run("smoke", "lethal:get_model", *settings, cwd=folder)
    assert (done.code, done.causes) == (1, [finding])
    assert done.status("smoke") == "skipped"
    assert time.monotonic() - begin < 60


@pytest.mark.parametrize("module", ["exits_at_import", "fails_at_import"])
def test_a_module_that_cannot_be_imported_is_a_finding(folder: Path, module: str) -> None:
    done = run("smoke", f"{module}:get_model", cwd=folder)
    assert done.code == 1
    [cause] = done.results["diagnosis"]["causes"]
    assert cause["where"][0]["file"] == f"{module}.py"
    assert "Traceback" not in done.out
    assert done.status("smoke") == "skipped"
