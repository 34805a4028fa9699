"""The result on a terminal: the answer first; nothing depends on colour."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from probes.results import Grade, Result, RunResults, Status, Verdict
from reports.checks import check_view
from reports.markup import diff_lines, names_places
from reports.numbers import duration, one_line, plural
from reports.shapes import CheckView, StageView, View
from reports.view import build_view

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

COLOURS = {
    Verdict.HEALTHY: "bold green",
    Verdict.FAULTY: "bold red",
    Verdict.INCONCLUSIVE: "bold yellow",
    Verdict.INTERRUPTED: "bold yellow",
}
MARKS = {
    Status.PASS: "ok",
    Status.FAIL: "FOUND",
    Status.INCONCLUSIVE: "open",
    Status.SKIPPED: "skip",
    Status.CRASHED: "CRASH",
    Status.INTERNAL: "tool!",
}
WARNINGS_SHOWN = 8
STAGE_STYLES = {"passed": "green", "failed": "red", "skipped": "dim"}


def probe_line(result: Result) -> str:
    """One result on one line, for progress while the run goes on: mark, stage, name, fact, time."""
    fact = one_line(check_view(result).fact, 120)
    time = f" ({duration(result.seconds)})" if result.seconds >= 0.05 else ""
    text = f"{MARKS[result.status]:<5} {one_line(result.stage)}: {one_line(result.name)}"
    return f"{text}: {fact}{time}" if fact else f"{text}{time}"


def render_terminal(results: RunResults, console: Console, report: Path | None = None) -> None:
    """Print the result: verdict, cause, where, fix, then the stages; ``report`` is where the full report lies."""
    view = build_view(results)
    style = COLOURS[results.verdict]
    console.print(_text((f"{view.verdict}. ", style), (view.headline, "bold")))
    if view.cause:
        console.print(_text((view.cause.summary, "")))
    elif view.summary:
        console.print(_text((view.summary, "")))
    _cause(view, console)
    _errors(view, console)
    _stages(view.stages, console)
    _warnings(view, console)
    for step in view.steps[:1]:
        console.print(_text((f"Next: {step.text} ", ""), (step.command, "bold")))
    for note in results.pipeline.get("warnings") or ():
        word = "Assumed" if str(note).startswith("No ") else "Note"
        console.print(_text((f"{word}: {one_line(str(note))}", "dim")))
    unchecked = sum(len(group.names) for group in (*view.not_checked.shown, *view.not_checked.skipped))
    if unchecked:
        console.print(
            _text((f"{plural(unchecked, 'check')} not made or not applicable: the report says which and why.", "dim"))
        )
    if report is not None:
        console.print(_text(("Report: ", ""), (str(report), "bold")), soft_wrap=True)


def _text(*parts: tuple[str, str]) -> Text:
    """Plain text with styles: what a user wrote is never read as console markup."""
    from rich.text import Text

    return Text.assemble(*parts)


def _indented(text: Text, console: Console, left: int = 2) -> None:
    from rich.padding import Padding

    console.print(Padding(text, (0, 0, 0, left), expand=False))


def _cause(view: View, console: Console) -> None:
    if not view.cause:
        return
    cause = view.cause
    for line in () if names_places(cause.before, cause.after) else cause.places:
        _indented(_text((line.place, "cyan"), (f"  {line.text}" if line.text else "", "")), console)
    if cause.fix:
        console.print(_text(("Fix: ", "bold"), (cause.fix, "")))
    if cause.example and (cause.before or cause.after):
        _indented(_text(("an example, not your code:", "dim")), console)
    for change in diff_lines(cause.before, cause.after):
        _indented(_text((change, {"-": "red", "+": "green", "@": "cyan"}.get(change[:1], ""))), console)
    if view.other_causes:
        for other in view.other_causes:
            at = f", at {other.places[0].place}" if other.places else ""
            word = "Also possible" if other.grade == Grade.SUSPECTED else "Also found"
            console.print(_text((f"{word}: ", "bold"), (f"{other.name} ({other.grade}{at}). {other.fix}", "")))


def _finding(check: CheckView, style: str, console: Console) -> None:
    at = f" ({check.places[0].place})" if check.places else ""
    console.print(_text((f"{check.outcome}: ", style), (check.name, "bold"), (f": {check.fact}{at}", "")))


def _errors(view: View, console: Console) -> None:
    for check in view.errors:
        _finding(check, "red", console)
        for block in check.blocks:
            _indented(_text((block.body, "dim")), console)


def _stages(stages: tuple[StageView, ...], console: Console) -> None:
    if not stages:
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="dim")
    table.add_column("stage", no_wrap=True)
    table.add_column("outcome", no_wrap=True)
    table.add_column("what was seen", overflow="fold")
    table.add_column("time", justify="right", no_wrap=True)
    for stage in stages:
        fact = stage.fact or _counts(stage)
        table.add_row(
            _text((stage.name, "")),
            _text((stage.outcome, STAGE_STYLES.get(stage.outcome, "yellow"))),
            _text((fact, "")),
            _text((stage.time, "")),
        )
    console.print(table)


def _counts(stage: StageView) -> str:
    """What a stage without a fact of its own did."""
    clear = len(stage.silent) + len(stage.clear)
    return f"{plural(clear, 'defect')} looked for and not found" if clear else ""


def _warnings(view: View, console: Console) -> None:
    for check in view.warnings[:WARNINGS_SHOWN]:
        _finding(check, "yellow", console)
    hidden = len(view.warnings) - WARNINGS_SHOWN
    if hidden > 0:
        console.print(_text((f"and {plural(hidden, 'more warning')} in the report", "")))
