"""Results from events, from older versions and from damaged folders; the schema says what is really written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from probes import results as r
from probes.results import RunResults, Status, Verdict, to_json
from reports import schema
from reports.fold import CUT_OFF, fold
from reports.load import UnreadableRun, load_results
from reports.next_steps import RESUMED
from reports.schema import SCHEMA_FILE, json_schema, parse, schema_text

HEADER: dict[str, Any] = {
    "event": "header", "schema_version": 1, "tool_version": "0.1.0", "run_id": "20261122-064100-ab12", "command": "run",
    "created": "2026-11-22T06:41:00+00:00", "reproduce": "diagnose run m:f", "target": "m:f", "config": {"seed": 0},
}  # fmt: skip
FINDING = {"name": "dead-units", "severity": "warning", "message": "3 of 8", "values": {"dead": 3}}


def result(status: str = "pass", name: str = "dead-units", stage: str = "smoke", **fields: Any) -> dict[str, Any]:
    data = {"code": "MOD301", "name": name, "stage": stage, "status": status, **fields}
    return {"event": "result", "result": data}


def finding(name: str = "dead-units") -> dict[str, Any]:
    return {"event": "finding", "probe": name, "stage": "smoke", "finding": FINDING}


def test_a_whole_run() -> None:
    events: list[dict[str, Any]] = [
        HEADER,
        {"event": "environment", "environment": {"torch": "2.14"}},
        {"event": "pipeline", "pipeline": {"task": "classification"}},
        {"event": "pipeline", "pipeline": {"epochs": 5}},
        result(),
        {"event": "stage", "stage": {"name": "smoke", "status": "pass", "seconds": 1}},
        {"event": "expected", "expected": [{"epoch": 10, "metric": "val_accuracy", "low": 0.1, "high": 1}]},
        {"event": "epoch", "row": {"epoch": 1, "train_loss": 0.5}},
        {"event": "evaluation", "evaluation": {"accuracy": 0.5}},
        {"event": "diagnosis", "diagnosis": {"summary": "Nothing was found."}},
        {"event": "verdict", "verdict": "healthy"},
    ]
    run = fold(events)
    assert run.verdict is Verdict.HEALTHY
    assert (run.run_id, run.config) == (HEADER["run_id"], {"seed": 0})
    assert run.pipeline == {"task": "classification", "epochs": 5}
    assert run.results == (r.Result("MOD301", "dead-units", "smoke", Status.PASS),)
    assert run.stages == (r.StageResult("smoke", Status.PASS, seconds=1.0),)
    assert run.training.expected == (r.Expected(10, "val_accuracy", 0.1, 1.0),)
    assert run.training.history == ({"epoch": 1, "train_loss": 0.5},)
    assert run.diagnosis.summary == "Nothing was found."
    assert fold(events) == run


def trial(seed: int, **fields: Any) -> dict[str, Any]:
    point = {"step": 0, "train_loss": 2.3, "train_score": 0.1, "val_score": None}
    trace = {"name": "as configured", "seed": seed, "steps": 600, "points": [point], "outcome": "stuck", **fields}
    return {"event": "trial", "of": f"trial {seed}", "trace": trace}


def test_the_trials_of_a_run_that_was_cut_off_are_shown() -> None:
    cut = fold([HEADER, trial(0), trial(1, points=[]), trial(2), trial(2)])
    (left,) = cut.results
    (seen,) = left.findings
    assert left.status is Status.INCONCLUSIVE
    assert seen.values == {"trials": 2}
    assert ("--resume" in seen.message) is (HEADER["command"] in RESUMED)
    (other,) = fold([{**HEADER, "command": "subset"}, trial(0)]).results
    assert "--resume" not in other.findings[0].message
    table = seen.evidence[0]
    assert isinstance(table, r.Table)
    assert [tuple(row[:3]) for row in table.rows] == [("as configured", 0, 600), ("as configured", 2, 600)]
    judged = result(name="settings-compared", stage="subset")
    assert [item.status for item in fold([HEADER, trial(0), judged]).results] == [Status.PASS]
    assert fold([HEADER, trial(0), {"event": "verdict", "verdict": "faulty"}]).results == ()


def test_no_verdict_means_interrupted_and_a_resumed_run_begins_without_one() -> None:
    assert fold([HEADER]).verdict is Verdict.INTERRUPTED
    ended: list[dict[str, Any]] = [
        HEADER,
        {"event": "diagnosis", "diagnosis": {"summary": "x"}},
        {"event": "verdict", "verdict": "faulty"},
    ]
    assert fold(ended).verdict is Verdict.FAULTY
    resumed = fold([*ended, HEADER])
    assert (resumed.verdict, resumed.diagnosis.summary) == (Verdict.INTERRUPTED, "")


def test_a_later_result_replaces_the_earlier_in_its_place() -> None:
    run = fold([HEADER, result("crashed"), result(name="other"), result("fail"), result("fail", stage="overfit")])
    assert [(each.name, each.stage, each.status) for each in run.results] == [
        ("dead-units", "smoke", "fail"), ("other", "smoke", "pass"), ("dead-units", "overfit", "fail"),
    ]  # fmt: skip


def test_streamed_findings_count_only_without_a_result() -> None:
    cut = fold([HEADER, finding(), finding()]).results[0]
    assert (cut.status, cut.reason, len(cut.findings)) == (Status.CRASHED, CUT_OFF, 2)
    assert fold([HEADER, finding(), result()]).results[0].findings == ()
    again = fold([HEADER, result("pass"), finding()]).results[0]
    assert (again.status, len(again.findings)) == (Status.CRASHED, 1)


def test_training_that_went_back_to_a_checkpoint() -> None:
    rows = [{"event": "epoch", "row": {"epoch": epoch, "run": run}} for run, epoch in ((1, 1), (1, 2), (1, 3), (2, 2))]
    history = fold([HEADER, *rows]).training.history
    assert [(row["epoch"], row["run"]) for row in history] == [(1, 1), (2, 2)]


def test_what_does_not_fit_costs_only_itself() -> None:
    broken: list[Any] = [
        {"event": "unknown"}, {"no": "event"}, "text", result("no such status"), {"event": "result"}, finding("x"),
        {"event": "finding", "probe": "y"}, {"event": "stage", "stage": {}}, {"event": "epoch"},
        {"event": "diagnosis", "diagnosis": {"causes": 3}}, {"event": "verdict", "verdict": "splendid"},
        {"event": "expected", "expected": [{"epoch": "soon"}]}, {"event": "expected", "expected": 3},
    ]  # fmt: skip
    run = fold([HEADER, *broken])
    assert [(each.name, each.status) for each in run.results] == [("dead-units", "internal"), ("x", "crashed")]
    assert "status" in run.results[0].reason
    assert run.verdict is Verdict.INTERRUPTED
    assert fold([]).run_id == ""


def write(folder: Path, results: Any = None, events: list[Any] | None = None, *, newer: str = "results") -> None:
    if results is not None:
        text = results if isinstance(results, str) else json.dumps(to_json(results))
        (folder / "results.json").write_text(text)
    if events is not None:
        (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events) + '{"event": "ver')
    if results is not None and events is not None:
        os.utime(folder / ("results.json" if newer == "events" else "events.jsonl"), (0, 0))


def example() -> RunResults:
    where = (r.Where("models.py", 41, "nn.Dropout(0.5)"),)
    evidence = (
        r.Number("loss", 5.3, "below 5"), r.Series("loss", (0.0, 1.0), (5.3, None)), r.Text("log", "…"),
        r.Table(("a", "b"), ((1, None), ("x", True))), r.Trace("ValueError", "bad", where),
    )  # fmt: skip
    found = r.Finding("stuck-at-chance", r.Severity.ERROR, "m", {"chance": 0.005, "list": (1, 2)}, where, evidence)
    fix = r.Fix("Lower it.", "Dropout(0.5)", "Dropout(0.1)")
    cause = r.Cause("dropout-too-strong", "REG701", r.Grade.PROVED, "s", {"p": 0.5}, where, fix, evidence, ("stuck",))
    because = (r.Because("label-noise", "it was measured"),)
    return RunResults(
        "0.1.0", "id", "run", "now", "diagnose run", "m:f", Verdict.FAULTY, {"threads": 2}, {"epochs": 5}, {"seed": 0},
        r.Diagnosis("s", ("stuck-at-chance",), (cause,), because, because),
        (r.Result("LRN101", "stuck-at-chance", "overfit", Status.FAIL, "r", (found,), 0.5),),
        (r.StageResult("overfit", Status.FAIL, "r", 1.5),),
        r.Training(({"epoch": 1, "val_loss": None},), (r.Expected(10, "val_accuracy", 0.08, 0.15, "prior"),)),
        {"accuracy": 0.005},
    )  # fmt: skip


def test_the_committed_schema_is_the_present_one() -> None:
    assert SCHEMA_FILE.read_text() == schema_text(), "run python -m reports.schema"


def test_a_full_example_fits_the_schema() -> None:
    data = json.loads(json.dumps(to_json(example()), allow_nan=False))
    jsonschema.Draft202012Validator.check_schema(json_schema())
    validator = jsonschema.Draft202012Validator(json_schema())
    validator.validate(data)
    validator.validate(to_json(fold([HEADER, result(), finding("x")])))
    assert not validator.is_valid({**data, "verdict": "splendid"})
    assert parse(data) == example()


def test_nan_is_never_written() -> None:
    series = r.Series("loss", (0.0, 1.0), (float("nan"), float("inf")))
    number = r.Number("loss", float("-inf"))
    text = json.dumps(to_json([series, number, {"x": float("nan")}]), allow_nan=False)
    assert json.loads(text)[0]["y"] == [None, None]


def test_load_reads_results(tmp_path: Path) -> None:
    write(tmp_path, example())
    assert load_results(tmp_path) == example()


@pytest.mark.parametrize("damaged", ["", "{", "[]", '{"schema_version": 1}', '{"a": 1}', "[" * 100_000])
def test_damaged_results_are_folded_from_the_events(tmp_path: Path, damaged: str) -> None:
    write(tmp_path, damaged, [HEADER, {"event": "verdict", "verdict": "faulty"}])
    assert load_results(tmp_path).verdict is Verdict.FAULTY
    (tmp_path / "events.jsonl").unlink()
    with pytest.raises(UnreadableRun):
        load_results(tmp_path)


def test_events_after_the_results_count(tmp_path: Path) -> None:
    write(tmp_path, example(), [HEADER], newer="events")
    assert load_results(tmp_path).verdict is Verdict.INTERRUPTED
    (tmp_path / "events.jsonl").write_text("torn")
    assert load_results(tmp_path) == example()


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(UnreadableRun, match="holds no run"):
        load_results(tmp_path)


def test_a_newer_version_is_refused_in_plain_words(tmp_path: Path) -> None:
    write(tmp_path, {**to_json(example()), "schema_version": r.SCHEMA_VERSION + 1})
    with pytest.raises(UnreadableRun, match="upgrade torch-diagnose"):
        load_results(tmp_path)
    write(tmp_path, events=[{**HEADER, "schema_version": r.SCHEMA_VERSION + 1}], newer="events")
    with pytest.raises(UnreadableRun, match="upgrade torch-diagnose"):
        load_results(tmp_path)


def test_an_older_version_is_upgraded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = {**to_json(example()), "schema_version": 0}
    old["aim"] = old.pop("target")
    write(tmp_path, old)
    with pytest.raises(UnreadableRun, match="no longer read"):
        load_results(tmp_path)

    def upgrade(data: dict[str, Any]) -> dict[str, Any]:
        data["target"] = data.pop("aim")
        return data

    monkeypatch.setitem(schema.UPGRADES, 0, upgrade)
    assert load_results(tmp_path) == example()


TEXT = st.text(max_size=8)
FLOAT = st.floats(allow_nan=False, allow_infinity=False)
SCALAR = st.none() | st.booleans() | st.integers() | FLOAT | TEXT
PLAIN = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=2).map(tuple) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)


def many(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(strategy, max_size=2).map(tuple)


MAPPING = st.dictionaries(TEXT, PLAIN, max_size=2)
WHERE = st.builds(r.Where, TEXT, st.integers(), TEXT)
EVIDENCE = st.one_of(
    st.builds(r.Number, TEXT, SCALAR, TEXT),
    st.builds(r.Series, TEXT, many(FLOAT), many(st.none() | FLOAT), TEXT, TEXT),
    st.builds(r.Table, many(TEXT), many(many(SCALAR)), TEXT),
    st.builds(r.Text, TEXT, TEXT),
    st.builds(r.Trace, TEXT, TEXT, many(WHERE)),
)
FINDINGS = st.builds(r.Finding, TEXT, st.sampled_from(r.Severity), TEXT, MAPPING, many(WHERE), many(EVIDENCE))
RESULT = st.builds(r.Result, TEXT, TEXT, TEXT, st.sampled_from(Status), TEXT, many(FINDINGS), FLOAT)
BECAUSE = st.builds(r.Because, TEXT, TEXT)
CAUSE = st.builds(
    r.Cause, TEXT, TEXT, st.sampled_from(r.Grade), TEXT, MAPPING, many(WHERE), st.builds(r.Fix, TEXT, TEXT, TEXT),
    many(EVIDENCE), many(TEXT),
)  # fmt: skip
DIAGNOSIS = st.builds(r.Diagnosis, TEXT, many(TEXT), many(CAUSE), many(BECAUSE), many(BECAUSE))
TRAINING = st.builds(r.Training, many(MAPPING), many(st.builds(r.Expected, st.integers(), TEXT, FLOAT, FLOAT, TEXT)))
RUNS = st.builds(
    RunResults, TEXT, TEXT, TEXT, TEXT, TEXT, TEXT, st.sampled_from(Verdict), MAPPING, MAPPING, MAPPING, DIAGNOSIS,
    many(RESULT), many(st.builds(r.StageResult, TEXT, st.sampled_from(Status), TEXT, FLOAT)), TRAINING, MAPPING,
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(RUNS)
def test_round_trip(run: RunResults) -> None:
    assert parse(json.loads(json.dumps(to_json(run), allow_nan=False))) == run
