"""The commands that are no stage: ablate, demo, report, compare, doctor, init."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diagnose.config import load_config
from diagnose.errors import ExitCode, UsageError
from diagnose.near_miss import did_you_mean

TARGET_FILE = "diagnose_target.py"


def demo(name: str, flags: Mapping[str, Any], argv: Sequence[str]) -> int:
    """An ordinary run on a target that ships with the tool."""
    from diagnose.execute import run_command

    names = sorted(path.stem for path in (Path(__file__).parent / "demos").glob("*.py") if path.stem != "__init__")
    if name not in names:
        raise UsageError(f"demo: got {name!r}, expected {' or '.join(names)}.{did_you_mean(name, names)}")
    return run_command("run", {**flags, "target": f"diagnose.demos.{name}:get_pipeline"}, argv=argv)


def report(run: str, kind: str) -> None:
    """From the folder alone; executes nothing of it."""
    from diagnose.store import find_run
    from reports.ci import render_github, render_json, render_junit
    from reports.load import UnreadableRun, load_results
    from reports.markdown import render_markdown

    folder = find_run(run, Path.cwd())
    try:
        results = load_results(folder)
    except UnreadableRun as error:
        raise UsageError(f"report: {error}") from error
    renderers = {
        "md": lambda: render_markdown(results, folder),
        "json": lambda: render_json(results),
        "junit": lambda: render_junit(results),
        "github": lambda: render_github(results),
    }
    if kind not in renderers:
        raise UsageError(f"--format: got {kind!r}, expected {', '.join(renderers)}.{did_you_mean(kind, renderers)}")
    print(renderers[kind]().rstrip("\n"))


def compare(first: str, second: str) -> None:
    from diagnose.store import find_run
    from reports.compare import render_compare
    from reports.load import UnreadableRun, load_results

    folders = [find_run(run, Path.cwd()) for run in (first, second)]
    if folders[0] == folders[1]:
        print("diagnose: both are the same run; name another: diagnose compare RUN latest.", file=sys.stderr)
    try:
        runs = [load_results(folder) for folder in folders]
    except UnreadableRun as error:
        raise UsageError(f"compare: {error}") from error
    print(render_compare(runs[0], runs[1]).rstrip("\n"))


def doctor() -> None:
    from rich.table import Table

    from diagnose.console import console
    from diagnose.doctor import report as examine

    table = Table("", "found", "verdict", box=None, pad_edge=False)
    for what, value, judgement in examine():
        table.add_row(what, value, judgement)
    console(highlight=False).print(table)


def ablate(flags: Mapping[str, Any], argv: Sequence[str]) -> int:
    """A comparison on purpose: every arm over every seed, as a table and a picture."""
    from diagnose.experimenting import run_ablation

    return run_ablation(load_config(_with_values(flags), Path.cwd()), argv)


def bisect(flags: Mapping[str, Any], argv: Sequence[str]) -> int:
    """Swaps against known-good settings and parts until the cause is isolated."""
    from diagnose.experimenting import run_bisect

    return run_bisect(load_config(flags, Path.cwd()), argv)


def range_test(flags: Mapping[str, Any], argv: Sequence[str]) -> int:
    """The learning-rate range test."""
    from diagnose.experimenting import run_range_test

    return run_range_test(load_config(flags, Path.cwd()), argv)


def _with_values(flags: Mapping[str, Any]) -> dict[str, Any]:
    values = flags.get("values")
    return {**flags, "values": [part for part in values.replace(" ", ",").split(",") if part] if values else None}


def init(flags: Mapping[str, Any], argv: Sequence[str]) -> int:
    """Writes a target file; never over an existing one. With ``assertions``: prints assert lines for a given target."""
    if flags.get("assertions"):
        return _assertions({key: value for key, value in flags.items() if key != "assertions"}, argv)
    path = Path(flags.get("out") or TARGET_FILE)
    if path.exists():
        raise UsageError(f"init: {path} exists and is left as it is; give another name with --out.")
    template = (Path(__file__).parent / "templates" / "target.py.txt").read_text(encoding="utf-8")
    path.write_text(template, encoding="utf-8")
    print(f"Wrote {path}. It runs as it is; put your model, data, loss and optimizer in. Then:")
    print(f"  diagnose run {path}:get_model")
    return int(ExitCode.HEALTHY)


def _assertions(flags: Mapping[str, Any], argv: Sequence[str]) -> int:
    from diagnose.execute import in_session
    from diagnose.session import Session
    from probes.api import Stage

    config = load_config(flags, Path.cwd())
    told: dict[str, Any] = {}

    def work(session: Session) -> None:
        if session.load(Stage.SMOKE) and session.ask({"do": "assertions", "stage": "smoke"}) is None:
            told.update(session.extra.get("assertions", {}))

    results, _ = in_session("init", config, argv, work)
    if "lines" not in told:
        reason = results.results[-1].reason if results.results else "the pipeline could not be built"
        print(f"diagnose: no assertions: {reason}", file=sys.stderr)
        return int(ExitCode.FAULTY)
    print("\n".join(told["lines"]))
    return int(ExitCode.HEALTHY)
