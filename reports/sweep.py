"""Several runs that differ in one setting: which learn, which do not, in what they differ, and what decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from probes.results import Grade, RunResults, Status, Verdict
from reports.causes import accused
from reports.curves import last, metric_of
from reports.markdown import collapse_blank_lines
from reports.markup import render
from reports.numbers import figure, one_line
from reports.shapes import TableView

LEARNING = {"stuck-at-chance", "cannot-overfit", "fails-on-reference-data", "slow-to-learn", "no-generalisation"}
SHOWN = ("model", "parameters", "modules", "dropout", "optimizer", "param_groups", "scheduler", "batch_size", "loss")


def render_sweep(runs: Sequence[tuple[str, RunResults]]) -> str:
    """Markdown over ``(label, results)`` of each run."""
    learn = [label for label, results in runs if results.verdict is Verdict.HEALTHY]
    fail = [label for label, results in runs if results.verdict is Verdict.FAULTY]
    return collapse_blank_lines(
        render(
            "sweep.md.j2",
            headline=_headline(runs, learn, fail),
            outcomes=_outcomes(runs),
            decides=_decides(runs),
            differences=_differences(runs),
        )
    )


def _headline(runs: Sequence[tuple[str, RunResults]], learn: Sequence[str], fail: Sequence[str]) -> str:
    open_ones = [label for label, _ in runs if label not in {*learn, *fail}]
    parts = [
        f"{', '.join(names)}: {word}"
        for names, word in ((learn, "no fault found"), (fail, "faulty"), (open_ones, "not decided"))
        if names
    ]
    return "; ".join(parts) + "."


def _outcomes(runs: Sequence[tuple[str, RunResults]]) -> TableView:
    rows = []
    for label, results in runs:
        causes = accused(results).diagnosis.causes
        metric = metric_of(results.training.history)
        score = last(results.training.history, f"val_{metric}", f"train_{metric}") if metric else None
        loss = last(results.training.history, "train_loss")
        cause = ", ".join(f"{c.name} ({c.grade.value})" for c in causes[:2]) or "none"
        shown = figure(f"val_{metric}", score) if score is not None else ""
        rows.append((label, results.verdict.value, cause, figure("train_loss", loss), shown))
    return TableView(("setting", "verdict", "cause", "train loss at end", "score"), tuple(rows))


def _decides(runs: Sequence[tuple[str, RunResults]]) -> list[str]:
    """What the experiments say of those that fail; and what those that learn have of the same."""
    said = []
    for label, results in runs:
        for cause in accused(results).diagnosis.causes[:2]:
            if cause.grade is Grade.PROVED:
                fails = LEARNING & {*cause.consequences, *results.diagnosis.symptoms}
                what = "does not learn because of" if fails else "is faulty:"
                said.append(f"{label} {what} {cause.name}: {one_line(cause.summary)}")
    failing = [cause for _, r in runs if r.verdict is Verdict.FAULTY for cause in r.diagnosis.causes]
    names = {cause.name for cause in failing if cause.grade is Grade.PROVED}
    for label, results in runs:
        same = [name for name in sorted(names) if _has(results.pipeline, name)]
        learned = any(stage.name == "subset" and stage.status is Status.PASS for stage in results.stages)
        if results.verdict is Verdict.HEALTHY and learned and same:
            said.append(
                f"{label} learns although it too has {' and '.join(SETTINGS[name] for name in same)}: something else "
                "in which it differs, see below, makes it bear that. No experiment has separated those differences."
            )
    return said


SETTINGS = {"dropout-too-strong": "dropout", "weight-decay-too-strong": "weight decay"}


def _has(pipeline: Mapping[str, Any], name: str) -> bool:
    if name == "dropout-too-strong":
        return bool(pipeline.get("dropout"))
    groups = pipeline.get("param_groups") or ()
    return name == "weight-decay-too-strong" and any(group.get("weight_decay") for group in groups)


def _differences(runs: Sequence[tuple[str, RunResults]]) -> TableView | None:
    """Facts of the pipelines that are not alike in all runs."""
    facts = [(label, _facts(results.pipeline)) for label, results in runs]
    names = list(dict.fromkeys(name for _, own in facts for name in own))
    rows = [
        (name, *(own.get(name, "none") for _, own in facts))
        for name in names
        if len({own.get(name, "none") for _, own in facts}) > 1
    ]
    return TableView(("", *(label for label, _ in facts)), tuple(rows)) if rows else None


def _facts(pipeline: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in SHOWN:
        value = pipeline.get(name)
        if isinstance(value, Mapping):
            found |= {str(key): str(item) for key, item in value.items()}
        elif value is not None:
            several = isinstance(value, (list, tuple))
            text = ", ".join(map(str, value)) if several else str(value)
            found[name.replace("_", " ")] = one_line(text) or "none"
    return found
