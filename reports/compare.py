"""Two runs side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from probes.results import RunResults, Verdict
from reports.appendix import flat
from reports.curves import KEY_EPOCHS, last, metric_of, row_at
from reports.headline import headline
from reports.markdown import collapse_blank_lines
from reports.markup import render
from reports.numbers import GAP, cleaned, duration, figure, finite, number, one_line
from reports.shapes import TableView
from reports.words import OUTCOMES, VERDICTS

A, B = "first (A)", "second (B)"


@dataclass(frozen=True)
class Comparison:
    """Two runs side by side, formatted."""

    headline: str
    runs: TableView
    appeared: tuple[str, ...]
    gone: tuple[str, ...]
    kept: tuple[str, ...]
    any_cause: bool
    differences: TableView | None
    equal: int
    stages: TableView | None
    final: TableView | None
    history: TableView | None


def render_compare(a: RunResults, b: RunResults) -> str:
    """Markdown: what became of the verdict and the causes, and what else differs between ``a`` and ``b``."""
    return collapse_blank_lines(render("compare.md.j2", view=build_comparison(a, b)))


def build_comparison(a: RunResults, b: RunResults) -> Comparison:
    a, b = cleaned(a), cleaned(b)
    old = {cause.name: cause for cause in a.diagnosis.causes}
    new = {cause.name: cause for cause in b.diagnosis.causes}
    differences, equal = _differences(a, b)
    return Comparison(
        headline=_headline(a, b),
        runs=_runs(a, b),
        appeared=tuple(f"{name} ({new[name].grade.value})" for name in new if name not in old),
        gone=tuple(f"{name} (was {old[name].grade.value}){_doubt(b, name)}" for name in old if name not in new),
        kept=tuple(f"{n} ({_change(old[n].grade.value, new[n].grade.value)})" for n in old if n in new),
        any_cause=bool(old or new),
        differences=differences,
        equal=equal,
        stages=_stages(a, b),
        final=_final(a, b),
        history=_history(a, b),
    )


def _change(before: str, after: str) -> str:
    return after if before == after else f"{before}, now {after}"


def _doubt(results: RunResults, name: str) -> str:
    """Absence that proves nothing is said as such."""
    open_names = {item.name for item in results.diagnosis.not_checked}
    if name in open_names:
        return "; but it was not checked in the second run"
    if results.verdict in (Verdict.INCONCLUSIVE, Verdict.INTERRUPTED):
        return f"; but the second run is {results.verdict.value}"
    return ""


def _headline(a: RunResults, b: RunResults) -> str:
    if a.verdict is b.verdict:
        return f"Both runs are {a.verdict.value}."
    return f"{VERDICTS[a.verdict]} became {b.verdict.value}."


def _runs(a: RunResults, b: RunResults) -> TableView:
    rows = [
        ("run", a.run_id, b.run_id),
        ("created", a.created, b.created),
        ("command", a.reproduce, b.reproduce),
        ("verdict", VERDICTS[a.verdict], VERDICTS[b.verdict]),
        ("in one sentence", headline(a), headline(b)),
    ]
    return TableView(("", A, B), tuple((n, one_line(x) or GAP, one_line(y) or GAP) for n, x, y in rows))


def _facts(results: RunResults) -> dict[str, str]:
    groups: dict[str, Mapping[str, Any]] = {
        "": {"target": results.target, "tool version": results.tool_version},
        "config: ": results.config,
        "pipeline: ": {key: value for key, value in results.pipeline.items() if key not in {"warnings", "files"}},
        "contents of ": results.pipeline.get("files", {}),
        "environment: ": results.environment,
    }
    return {f"{group}{name}": text for group, values in groups.items() for name, text in flat(values)}


def _differences(a: RunResults, b: RunResults) -> tuple[TableView | None, int]:
    """What differs in configuration, pipeline and environment; and how many facts are equal."""
    left, right = _facts(a), _facts(b)
    names = list(dict.fromkeys([*left, *right]))
    rows = tuple(
        (name, left.get(name, "not set"), right.get(name, "not set"))
        for name in names
        if left.get(name) != right.get(name)
    )
    return (TableView(("name", A, B), rows) if rows else None), len(names) - len(rows)


def _stages(a: RunResults, b: RunResults) -> TableView | None:
    left, right = ({stage.name: stage for stage in run.stages} for run in (a, b))
    rows = []
    for name in dict.fromkeys([*left, *right]):
        cells = [name]
        for side in (left, right):
            stage = side.get(name)
            cells += [OUTCOMES[stage.status], duration(stage.seconds)] if stage else ["not run", GAP]
        rows.append(tuple(cells))
    columns = ("stage", f"{A}, outcome", "time", f"{B}, outcome", "time")
    return TableView(columns, tuple(rows)) if rows else None


def _final(a: RunResults, b: RunResults) -> TableView | None:
    """The last figure of each column of the history, and the evaluation."""
    keys: dict[str, None] = {}
    for run in (a, b):
        metric = metric_of(run.training.history)
        for name in ("loss", metric):
            keys |= {f"{part}_{name}": None for part in ("train", "val") if name}
    rows = []
    for key in keys:
        x, y = (last(run.training.history, key) for run in (a, b))
        rows.append((key.replace("_", " "), figure(key, x), figure(key, y), _delta(key, x, y)))
    scalars = [key for run in (a, b) for key, value in run.evaluation.items() if finite(value) is not None]
    for key in dict.fromkeys(scalars):
        x, y = (finite(run.evaluation.get(key)) for run in (a, b))
        rows.append((f"evaluation {key.replace('_', ' ')}", figure(key, x), figure(key, y), _delta(key, x, y)))
    shown = tuple(row for row in rows if row[1] != GAP or row[2] != GAP)
    return TableView(("last figure", A, B, "change"), shown) if shown else None


def _delta(key: str, x: float | None, y: float | None) -> str:
    if x is None or y is None:
        return GAP
    sign = "+" if y > x else "-" if y < x else ""
    text = figure(key, abs(y - x))
    return f"{sign}{text[:-2]} points" if text.endswith(" %") else f"{sign}{text}"


def _history(a: RunResults, b: RunResults) -> TableView | None:
    metric = metric_of(a.training.history) or metric_of(b.training.history)
    keys = ["val_loss", *([f"val_{metric}"] if metric else [])]
    rows = []
    for epoch in KEY_EPOCHS:
        sides = [row_at(run.training.history, epoch) or {} for run in (a, b)]
        cells = [figure(key, side.get(key)) for key in keys for side in sides]
        if any(text != GAP for text in cells):
            rows.append((number(epoch), *cells))
    columns = ("epoch", *(f"{key.replace('_', ' ')}, {side}" for key in keys for side in ("A", "B")))
    return TableView(columns, tuple(rows)) if rows else None
