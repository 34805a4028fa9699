"""The answer in one sentence, and the symptom in figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from probes.results import Grade, RunResults, Severity, StageResult, Status, Verdict
from reports.causes import place
from reports.curves import chance_of, clock, guess_loss_of, last, metric_of, points
from reports.numbers import figure, finite, number, one_line, percent, plural
from reports.shapes import TableView
from reports.words import MEASURED, MEASURED_TITLES, OUTCOMES

_STRONG = (Grade.PROVED, Grade.SUPPORTED)


def title(results: RunResults) -> str:
    causes = results.diagnosis.causes
    target = one_line(results.target) or "pipeline"
    if results.verdict is Verdict.FAULTY:
        return f"{target}: {causes[0].name}" if causes else f"{target}: faulty"
    if measured(results):
        return f"{target}: {MEASURED_TITLES[results.command]}"
    return f"{target}: {results.verdict.value}"


def measured(results: RunResults) -> str:
    """What came of a command that was asked to measure, not to judge; empty for others, and where a fault was found."""
    if results.verdict is not Verdict.HEALTHY:
        return ""
    wanted = MEASURED.get(results.command)
    told = [f.message for r in results.results for f in r.findings if f.name == wanted]
    return one_line(told[0])[:1].upper() + one_line(told[0])[1:].rstrip(".") + "." if told else ""


def headline(results: RunResults) -> str:
    """One sentence that answers the reader's question."""
    return measured(results) or {
        Verdict.FAULTY: _faulty,
        Verdict.HEALTHY: _healthy,
        Verdict.INCONCLUSIVE: _inconclusive,
        Verdict.INTERRUPTED: _interrupted,
    }[results.verdict](results)


def _faulty(results: RunResults) -> str:
    causes = results.diagnosis.causes
    if causes:
        first = causes[0]
        at = f", at {place(first.where[0])}" if first.where else ""
        more = f" and {plural(len(first.where) - 1, 'more place')}" if len(first.where) > 1 else ""
        word = "The cause is" if first.grade in _STRONG else "The best lead is"
        strong = sum(cause.grade in _STRONG for cause in causes)
        word = f"There are {strong} causes; the first is" if strong > 1 else word
        return f"{word} {one_line(first.name)} ({first.grade.value}{at}{more})."
    errors = [f for r in results.results for f in r.findings if f.severity is Severity.ERROR]
    if errors:
        at = f" at {place(errors[0].where[0])}" if errors[0].where else ""
        return f"{plural(len(errors), 'error')} found, the first being {one_line(errors[0].name)}{at}."
    failed = [r.name for r in results.results if r.status in (Status.FAIL, Status.CRASHED)]
    if failed:
        return f"{one_line(failed[0])} failed, and no single cause was established."
    return "The run was judged faulty, but no finding was recorded."


def _healthy(results: RunResults) -> str:
    passed = [stage.name for stage in results.stages if stage.status is Status.PASS]
    others = [f"{s.name} ({OUTCOMES[s.status]})" for s in results.stages if s.status is not Status.PASS]
    if not passed:
        return "Nothing faulty was found, but the record names no stage that passed."
    warnings = {f.name for r in results.results for f in r.findings if f.severity is Severity.WARNING}
    found = f"No error was found, but {plural(len(warnings), 'warning')}" if warnings else "No fault was found"
    if (reached := _no_better_than_guessing(results)) is not None:
        more = f"the accuracy, {percent(reached)}, is no better than always naming the most frequent class gives"
        found += f", {'and' if warnings else 'but'} {more}"
    text = f"{found}; these stages ran and passed: {', '.join(passed)}"
    return f"{text}; others: {', '.join(others)}." if others else f"{text}."


def _no_better_than_guessing(results: RunResults) -> float | None:
    """The last accuracy, where neither it nor the loss tells of more than the shares of the classes."""
    history = results.training.history
    reached, loss = last(history, "val_accuracy"), last(history, "val_loss")
    chance, guess = chance_of(results), guess_loss_of(results)
    if reached is None or loss is None or chance is None or guess is None:
        return None
    return reached if reached <= chance and loss >= guess else None


def undecided(results: RunResults) -> list[StageResult]:
    """Stages without a verdict, those that ran first; mnist, which only advises, is the last to be the reason."""
    left = [stage for stage in results.stages if stage.status is not Status.PASS]
    return sorted(left, key=lambda stage: (stage.name == "mnist", stage.status is not Status.INCONCLUSIVE))


def _inconclusive(results: RunResults) -> str:
    for stage in undecided(results):
        because = one_line(stage.reason).rstrip(".") or "no reason was recorded"
        return f"Nothing faulty was found, but the stage {stage.name} came to no verdict ({because})."
    for result in results.results:
        if result.status in (Status.SKIPPED, Status.INCONCLUSIVE, Status.INTERNAL):
            because = one_line(result.reason).rstrip(".") or "no reason was recorded"
            return f"Nothing faulty was found, but the check {one_line(result.name)} came to no verdict ({because})."
    return "Nothing faulty was found, but not everything that was asked for was checked."


def _interrupted(results: RunResults) -> str:
    done = [stage.name for stage in results.stages if stage.status is Status.PASS]
    if results.diagnosis.causes:
        return f"The run was stopped before its end; so far: {_faulty(results)}"
    epochs = plural(len(results.training.history), "epoch") if results.command == "train" else ""
    passed = f"passed so far: {', '.join(done)}" if done else f"{epochs or 'no stage'} had been finished"
    return f"The run was stopped before its end; {passed}."


def _values(results: RunResults) -> dict[str, Any]:
    """The figures of the first cause, then those of the symptoms; the first word counts."""
    found: dict[str, Any] = {}
    sources: list[Mapping[str, Any]] = [cause.values for cause in results.diagnosis.causes[:1]]
    sources += [f.values for r in results.results for f in r.findings if f.name in results.diagnosis.symptoms]
    for source in sources:
        for key, value in source.items():
            if finite(value) is not None:
                found.setdefault(key, value)
    return found


def symptom_table(results: RunResults) -> TableView | None:
    """What the run did: the metric against chance, the loss from first to last."""
    values, history = _values(results), results.training.history
    rows: list[tuple[str, str, str]] = []
    metric = "accuracy" if "accuracy" in values else metric_of(history) or "accuracy"
    reached = values.get(metric, last(history, f"val_{metric}", f"train_{metric}"))
    chance = chance_of(results)
    if finite(reached) is not None:
        compare = f"guessing gives {percent(chance)}" if chance and metric == "accuracy" else ""
        own = metric in values or last(history, f"val_{metric}") is not None  # else of the samples that were trained on
        rows.append((("" if own else "training ") + metric.replace("_", " "), figure(metric, reached), compare))
    for part in ("train", "val"):
        ys = points(history, f"{part}_loss")[1]
        if ys:
            rows.append((f"{part} loss, first to last", f"{number(ys[0])} to {_end(history, part, ys)}", ""))
    first, final = finite(values.get("loss_first")), finite(values.get("loss_last"))
    if not any("loss" in row[0] for row in rows) and first is not None and final is not None:
        rows.append(("loss, first to last", f"{number(first)} to {number(final)}", ""))
    if (loss := guess_loss_of(results)) is not None:
        guess = f"a model that only guesses has {number(loss)}"
        rows = [(name, seen, guess if "loss" in name and not against else against) for name, seen, against in rows]
    return TableView(("figure", "observed", "for comparison"), tuple(rows)) if rows else None


def _end(history: Sequence[Mapping[str, Any]], part: str, ys: list[float]) -> str:
    """The last loss; said as such where the loss stopped being a finite number."""
    xs = points(history, f"{part}_loss")[0]
    if finite(history[-1].get(f"{part}_loss")) is not None:
        return number(ys[-1])
    return f"{number(ys[-1])}; no finite figure after {clock(history)} {number(int(xs[-1]))}"
