"""What the terminal shows, two runs side by side, and figures as text."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import samples
from markdown_it import MarkdownIt
from rich.console import Console

from probes.results import Because, Result, RunResults, StageResult, Status
from reports.compare import build_comparison, render_compare
from reports.headline import headline
from reports.next_steps import next_steps
from reports.numbers import duration, figure, number, percent
from reports.terminal import probe_line, render_terminal

ALL = ("stuck", "healthy", "inconclusive", "crashed", "hostile", "empty", "not_finite")


def shown(results: RunResults, width: int = 90, report: Path | None = None) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    render_terminal(results, console, report)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("width", [40, 120])
def test_terminal_fits_its_width(name: str, width: int) -> None:
    text = shown(getattr(samples, name)(), width)
    assert max(map(len, text.splitlines())) <= width
    assert "\x1b" not in text


def test_terminal_gives_the_answer_first() -> None:
    lines = shown(samples.stuck(), 120, Path("runs") / "x" / "report.md").splitlines()
    assert lines[0].startswith("Faulty. The cause is dropout-too-strong (proved, at models.py:41")
    assert "  -     nn.Dropout(0.5)," in lines
    assert "  +     nn.Dropout(0.2)," in lines
    assert lines[-1] == f"Report: {Path('runs') / 'x' / 'report.md'}"


def test_console_markup_in_user_text_is_text() -> None:
    base = samples.stuck()
    cause = replace(base.diagnosis.causes[0], summary="[bold]x[/nonsense]")
    text = shown(replace(base, diagnosis=replace(base.diagnosis, causes=(cause,))))
    assert "[bold]x[/nonsense]" in text


@pytest.mark.parametrize("status", list(Status))
def test_probe_line_is_one_line_and_tells_the_states_apart(status: Status) -> None:
    line = probe_line(Result("X", "name", "smoke", status, "first\nsecond \x1b[2J", (), 0.3))
    assert "\n" not in line
    assert "\x1b" not in line
    assert line.startswith("ok ") is (status is Status.PASS)


def test_compare_word_for_word(check_golden: Callable[[str, str], None]) -> None:
    check_golden("compare.md", render_compare(samples.stuck(), samples.healthy()))


@pytest.mark.parametrize("left", ALL)
@pytest.mark.parametrize("right", ALL)
def test_any_two_runs_compare(left: str, right: str) -> None:
    text = render_compare(getattr(samples, left)(), getattr(samples, right)())
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    inlines = [inner.type for token in tokens for inner in token.children or []]
    assert not {"link_open", "image", "html_inline"} & set(inlines)


def test_a_cause_that_was_not_checked_again_is_not_simply_gone() -> None:
    fixed = samples.healthy()
    unchecked = (Because("dropout-too-strong", "no time"),)
    other = replace(fixed, diagnosis=replace(fixed.diagnosis, not_checked=unchecked))
    assert "was not checked" in build_comparison(samples.stuck(), other).gone[0]
    assert "inconclusive" in build_comparison(samples.stuck(), samples.inconclusive()).gone[0]


def test_compare_sees_that_a_file_and_its_transforms_changed() -> None:
    a = samples.healthy()
    b = replace(a, pipeline={**a.pipeline, "files": {"pipe.py": "b2"}, "transforms": {"train": "RandomCrop(8)"}})
    a = replace(a, pipeline={**a.pipeline, "files": {"pipe.py": "a1"}, "transforms": {"train": "RandomCrop(16)"}})
    table = build_comparison(a, b).differences
    assert table is not None
    assert ("contents of pipe.py", "a1", "b2") in table.rows
    assert ("pipeline: transforms.train", "RandomCrop(16)", "RandomCrop(8)") in table.rows


def test_compare_with_itself_finds_no_difference() -> None:
    same = build_comparison(samples.stuck(), samples.stuck())
    assert same.differences is None
    assert same.kept == ("dropout-too-strong (proved)", "lr-too-low (suspected)")
    assert not same.gone
    assert not same.appeared


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5.3, "5.300"),
        (731112, "731,112"),
        (0.0003, "3e-4"),
        (math.nan, "–"),
        (None, "–"),
        (0.0, "0"),
        (2.0, "2"),
        (0.5, "0.5"),
        (1234567.8, "1,234,568"),
        (math.inf, "–"),
        (-0.00042, "-4.2e-4"),
    ],
)
def test_number(value: object, text: str) -> None:
    assert number(value) == text


def test_percent_duration_and_names() -> None:
    assert [percent(x) for x in (0.0056, 0.005, 0.352, 1.0, 0.0, 1e-6)] == [
        "0.56 %",
        "0.5 %",
        "35.2 %",
        "100 %",
        "0 %",
        "below 0.01 %",
    ]
    assert [duration(x) for x in (0.01, 1.9, 131, 7300, math.nan)] == [
        "under 0.1 s",
        "1.9 s",
        "2 min 11 s",
        "2 h 01 min",
        "–",
    ]
    assert [figure("val_accuracy", 0.5), figure("seed", 12345), figure("lr", [0.1, 2]), figure("x", True)] == [
        "50 %",
        "12345",
        "0.1, 2",
        "yes",
    ]


def test_what_only_advises_is_not_the_reason_for_no_verdict() -> None:
    stages = (
        StageResult("data", Status.PASS), StageResult("mnist", Status.SKIPPED, "these are no images"),
        StageResult("subset", Status.INCONCLUSIVE, "hardly better than guessing"),
    )  # fmt: skip
    results = replace(samples.inconclusive(), stages=stages, results=())
    assert "the stage subset came to no verdict (hardly better than guessing)" in headline(results)
    (step,) = next_steps(results)
    assert step.command.endswith("--fraction 1")
    assert " bisect " in step.command
