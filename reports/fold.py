"""The results of a run as a pure function of its events, whatever the moment at which the run was cut off.

Not covered: what was never told. A probe that was killed before it yielded a finding leaves no trace here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from probes.results import (
    SCHEMA_VERSION,
    Diagnosis,
    Expected,
    Finding,
    Result,
    RunResults,
    StageResult,
    Status,
    Verdict,
    to_json,
)
from reports.left_trials import left_trials
from reports.next_steps import RESUMED
from reports.schema import UnreadableRun, parse, validate

CUT_OFF = "The run was cut off before this probe ended; what it had found until then is kept."

_TEXTS = ("tool_version", "run_id", "command", "created", "reproduce", "target")
_HEADER = {*_TEXTS, "schema_version", "config", "environment", "pipeline"}

Data = dict[str, Any]
Event = Mapping[str, Any]


def fold(events: Iterable[Event]) -> RunResults:
    """Later events win: results by (name, stage), stages by name, epochs by number.

    A run that is taken up again writes a new header, which takes back the verdict and the diagnosis. Events of an
    unknown kind, and parts that do not fit the schema, are left out; a result that does not fit becomes ``internal``.
    Raises UnreadableRun when the events are of a newer schema.
    """
    return parse(assemble(events))


def assemble(events: Iterable[Event]) -> Data:
    """The data of ``results.json`` before validation, in the version of the header."""
    state = _State()
    for event in events:
        take = _TAKERS.get(str(event.get("event"))) if isinstance(event, Mapping) else None
        if take is not None:
            take(state, event)
    return state.data()


class _State:
    def __init__(self) -> None:
        self.fields: Data = {"schema_version": SCHEMA_VERSION, **dict.fromkeys(_TEXTS, "")}
        self.results: dict[tuple[str, str], Data] = {}
        self.stages: dict[str, Data] = {}
        self.history: list[Data] = []
        self.trials: dict[str, Any] = {}
        self.expected: list[Any] = []
        self.verdict: Verdict = Verdict.INTERRUPTED

    def _left(self) -> Result | None:
        return left_trials(self.trials.values(), resumed=self.fields["command"] in RESUMED)

    def data(self) -> Data:
        if self.verdict is Verdict.INTERRUPTED and (left := self._left()):
            self.results.setdefault((left.name, left.stage), to_json(left))
        return {
            **self.fields,
            "verdict": self.verdict.value,
            "results": list(self.results.values()),
            "stages": list(self.stages.values()),
            "training": {"history": self.history, "expected": self.expected},
        }


def _header(state: _State, event: Event) -> None:
    state.fields |= {key: value for key, value in event.items() if key in _HEADER}
    state.fields.pop("diagnosis", None)
    state.verdict = Verdict.INTERRUPTED


def _merged(key: str) -> Callable[[_State, Event], None]:
    def take(state: _State, event: Event) -> None:
        if isinstance(event.get(key), Mapping):
            state.fields[key] = {**state.fields.get(key, {}), **event[key]}

    return take


def _result(state: _State, event: Event) -> None:
    result = event.get("result")
    if not isinstance(result, Mapping):
        return
    name, stage = str(result.get("name", "")), str(result.get("stage", ""))
    try:
        data = to_json(validate(Result, result))
    except UnreadableRun as error:
        reason = f"The tool wrote a result that it cannot read. {error}"
        lost = Result(str(result.get("code", "")), name, stage, Status.INTERNAL, reason)
        data = to_json(lost)
    state.results[name, stage] = data


def _finding(state: _State, event: Event) -> None:
    """Counts only until the probe's result arrives, unless it never does."""
    try:
        finding = to_json(validate(Finding, event.get("finding") or {}))
    except UnreadableRun:
        return
    name, stage = str(event.get("probe", "")), str(event.get("stage", ""))
    partial = state.results.get((name, stage))
    if partial is None or partial["reason"] != CUT_OFF:  # the probe runs again, as after --resume
        partial = to_json(Result(str(event.get("code", "")), name, stage, Status.CRASHED, CUT_OFF))
        state.results[name, stage] = partial
    partial["findings"] = [*partial["findings"], finding]


def _stage(state: _State, event: Event) -> None:
    try:
        stage = validate(StageResult, event.get("stage") or {})
    except UnreadableRun:
        return
    state.stages[stage.name] = to_json(stage)


def _epoch(state: _State, event: Event) -> None:
    """A row of an epoch that was already there means that training went back to a checkpoint before it."""
    row = event.get("row")
    if not isinstance(row, Mapping):
        return
    epoch = row.get("epoch")
    if isinstance(epoch, (int, float)):
        state.history = [old for old in state.history if not _is_from(old, epoch)]
    state.history.append(dict(row))


def _is_from(row: Data, epoch: float) -> bool:
    return isinstance(row.get("epoch"), (int, float)) and bool(row["epoch"] >= epoch)


def _trial(state: _State, event: Event) -> None:
    if isinstance(event.get("trace"), Mapping):
        state.trials[str(event.get("of"))] = event["trace"]


def _expected(state: _State, event: Event) -> None:
    try:
        state.expected = [to_json(validate(Expected, each)) for each in event.get("expected") or ()]
    except (TypeError, UnreadableRun):
        return


def _diagnosis(state: _State, event: Event) -> None:
    try:
        state.fields["diagnosis"] = to_json(validate(Diagnosis, event.get("diagnosis") or {}))
    except UnreadableRun:
        return


def _verdict(state: _State, event: Event) -> None:
    if event.get("verdict") in set(Verdict):
        state.verdict = Verdict(event["verdict"])


_TAKERS: dict[str, Callable[[_State, Event], None]] = {
    "header": _header,
    "environment": _merged("environment"),
    "pipeline": _merged("pipeline"),
    "evaluation": _merged("evaluation"),
    "result": _result,
    "finding": _finding,
    "stage": _stage,
    "epoch": _epoch,
    "trial": _trial,
    "expected": _expected,
    "diagnosis": _diagnosis,
    "verdict": _verdict,
}
