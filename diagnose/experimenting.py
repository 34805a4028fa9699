"""``diagnose ablate``, ``bisect`` and ``lr``: experiments that were asked for."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from diagnose import planned
from diagnose.config import Config
from diagnose.errors import ExitCode, UsageError
from diagnose.execute import conclude, header, in_session
from diagnose.experiments.order import KNOBS, SPEAKS
from diagnose.near_miss import did_you_mean
from diagnose.plan import EXPERIMENT_ORDER, make_plan
from diagnose.session import Session
from probes.api import Stage
from probes.results import RunResults, Status, Table

LEARNS = "stuck-at-chance"  # the probe that tells whether the unchanged pipeline learns
RANGE_STEPS = 210  # of diagnose.experiments.lr_range, which needs torch


def run_ablation(config: Config, argv: Sequence[str]) -> int:
    """Every arm of one knob over every seed."""
    if config.knob not in KNOBS:
        got = f"got {config.knob!r}" if config.knob else "none was given"
        raise UsageError(f"--knob: {got}, expected {', '.join(KNOBS)}.{did_you_mean(str(config.knob), KNOBS)}")
    knob = str(config.knob)
    about = {"experiments": "comparison", "knob": knob, "values": list(config.values)}
    if config.plan:
        return _print_plan(config, about, partial(planned.of_comparison, knob))
    step = {"do": "ablate", "knob": knob, "values": list(config.values)}
    question = f"does the {knob} decide whether the model learns?"
    tells = about, partial(planned.of_comparison, knob)
    names = (LEARNS, "settings-compared", *SPEAKS.get(knob, ()))
    return _run("ablate", config, argv, question, step, names, tells=tells)


def run_range_test(config: Config, argv: Sequence[str]) -> int:
    if config.plan:
        return _print_plan(config, {}, partial(planned.of_range_test, RANGE_STEPS))
    return _run(
        "lr", config, argv, "at which learning rates does the loss fall?", {"do": "lr"}, ("learning-rate-range",)
    )


def run_bisect(config: Config, argv: Sequence[str]) -> int:
    """Data and smoke as for any stage, then every experiment that is needed to find what keeps it from learning."""
    question = "which change makes it learn?"
    tells = {"experiments": "search"}, planned.of_search
    if config.plan:
        return _print_plan(config, *tells)
    names = (LEARNS, *EXPERIMENT_ORDER)
    return _run("bisect", config, argv, question, {"do": "bisect"}, names, looks_first=True, tells=tells)


def _run(
    command: str,
    config: Config,
    argv: Sequence[str],
    question: str,
    step: dict[str, Any],
    names: Sequence[str],
    *,
    looks_first: bool = False,
    tells: tuple[Mapping[str, Any], Callable[[planned.Estimate], list[str]]] | None = None,
) -> int:
    """``looks_first``: data and smoke come before. ``tells``: what the plan must know, and its lines."""
    plan = make_plan("subset", config)

    def work(session: Session) -> None:
        if not session.load(Stage.SUBSET):
            return
        expected: tuple[Any, ...] = ()
        if not session.has_data:
            raise UsageError(f"{command} needs data, and none were given: give --data, or define get_loaders().")
        if tells is not None and not config.quiet:
            about, lines = tells
            estimate = session.estimate(about)
            sys.stderr.write("".join(f"{line}\n" for line in lines(estimate)))
            if "arms" in (found := estimate.get("comparison", {})):
                expected = found["arms"], found["seeds"]
        if looks_first:
            for stage in (Stage.DATA, Stage.SMOKE):
                if session.run_stage(stage, plan).status is Status.CRASHED:
                    return
        session.experiment(question, step, [name for name in names if _chosen(name, config)], *expected)

    results, folder = in_session(command, config, argv, work, plan=plan)
    if not config.json:
        _print_what_was_measured(results)
    return conclude(results, folder, config, command)


def _chosen(name: str, config: Config) -> bool:
    from diagnose.plan import matches
    from probes import catalogue

    return not any(matches(catalogue.doc(name), wanted) for wanted in config.ignore)


def _print_plan(config: Config, about: Mapping[str, Any], lines: Callable[[planned.Estimate], list[str]]) -> int:
    known = header("plan", config, ())
    print("\n".join(lines(planned.estimate_only(config, Stage.SUBSET, known, about))))
    return int(ExitCode.HEALTHY)


def _print_what_was_measured(results: RunResults) -> None:
    """Of a comparison a table with one line for each arm; its sentence comes with the result."""
    from rich.table import Table as RichTable

    from diagnose.console import console

    found = [f for r in results.results for f in r.findings if f.name == "settings-compared"]
    for finding in found:
        for item in [e for e in finding.evidence if isinstance(e, Table) and e.columns[0] == "change"]:
            shown = RichTable("change", "train loss at end", "val accuracy", "learns", box=None, pad_edge=False)
            arms = Counter(str(row[0]) for row in item.rows)
            cut = "finished" in finding.values
            for label, seeds in arms.items():
                short = ", cut short" if cut and seeds < max(arms.values()) else ""
                losses, accuracies, learns = _over_seeds(item, label)
                shown.add_row(label, losses, accuracies, learns + short)
            if cut:
                console(highlight=False).print(f"Cut short after {finding.values['finished']} short trainings:")
            console(highlight=False).print(shown)


def _over_seeds(table: Table, label: str) -> tuple[str, str, str]:
    """(losses, accuracies, learns) of one arm, the lowest to the highest."""
    from reports.numbers import figure

    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows if row[0] == label]

    def span(column: str) -> str:
        known = sorted(float(value) for row in rows if isinstance(value := row[column], (int, float)))
        ends = list(dict.fromkeys(figure(column, value) for value in (known[0], known[-1]))) if known else []
        return " to ".join(ends)

    learns = sum(row["learns?"] == "yes" for row in rows)
    return span("loss at end"), span("val accuracy"), f"{learns} of {len(rows)}"
