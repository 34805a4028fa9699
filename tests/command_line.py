"""Runs the command line as a user would: another process, in a folder of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import psutil

PROJECTS = Path(__file__).parent / "projects"
MARK = "COMMAND_LINE_TEST"
_SCHEMA = Path(__file__).parent.parent / "reports" / "results.schema.json"


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str
    folder: Path
    results: dict[str, Any]

    def status(self, name: str) -> str:
        """Of a stage, or else of a probe."""
        found = {r["name"]: r["status"] for r in self.results["results"]}
        return {**found, **{s["name"]: s["status"] for s in self.results["stages"]}}[name]

    @property
    def causes(self) -> list[str]:
        return [cause["name"] for cause in self.results["diagnosis"]["causes"]]


def project(name: str, folder: Path) -> Path:
    """A copy of a test project (a folder or a file) in ``folder``."""
    source = PROJECTS / name
    if source.is_dir():
        shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, folder)
    return folder


def start(*arguments: str, cwd: Path, **environment: str) -> subprocess.Popen[str]:
    clean = {key: value for key, value in os.environ.items() if key not in ("GITHUB_ACTIONS", "CI", "NO_COLOR")}
    return subprocess.Popen(
        [sys.executable, "-m", "diagnose", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**clean, "COLUMNS": "120", MARK: str(cwd), **environment},
    )


def run(*arguments: str, cwd: Path, **environment: str) -> Outcome:
    """Also checks what holds for every command: results fit the schema, and no process is left."""
    return finish(start(*arguments, cwd=cwd, **environment), cwd, arguments)


def finish(process: subprocess.Popen[str], cwd: Path, arguments: tuple[str, ...] = ()) -> Outcome:
    out, err = process.communicate(timeout=200)
    assert "Traceback" not in err, err
    assert left_over(cwd) == []
    folder = cwd / arguments[arguments.index("--out") + 1] if "--out" in arguments else _latest(cwd)
    file = folder / "results.json"
    results = json.loads(file.read_text(), parse_constant=_refused) if file.is_file() else {}
    if results:
        jsonschema.validate(results, _schema())
    return Outcome(process.returncode, out, err, folder, results)


def _refused(token: str) -> None:
    raise AssertionError(f"{token} is no JSON")


@cache
def _schema() -> Any:
    return json.loads(_SCHEMA.read_text())


def runs(cwd: Path) -> list[Path]:
    folder = cwd / ".diagnose" / "runs"
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _latest(cwd: Path) -> Path:
    return runs(cwd)[-1] if runs(cwd) else cwd


def left_over(cwd: Path) -> list[str]:
    """Processes that were started by a command in ``cwd`` and are still there, after a moment to die."""
    end = time.monotonic() + 3
    while (found := _marked(cwd)) and time.monotonic() < end:
        time.sleep(0.1)
    return found


def _marked(cwd: Path) -> list[str]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(cwd) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found
