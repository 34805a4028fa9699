"""What a run found, as plain frozen data: the schema of ``results.json``.

Nothing here holds a tensor, a figure or a callable, so every result can be saved, read back and rendered
without torch and without the user's code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Literal

SCHEMA_VERSION = 1

Scalar = str | int | float | bool | None


class Status(StrEnum):
    """Outcome of one probe. Every outcome but ``pass`` carries a reason."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    SKIPPED = "skipped"
    CRASHED = "crashed"
    INTERNAL = "internal"


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class Verdict(StrEnum):
    HEALTHY = "healthy"
    FAULTY = "faulty"
    INCONCLUSIVE = "inconclusive"
    INTERRUPTED = "interrupted"


class Grade(StrEnum):
    """How well a cause is established; the members are in order of strength."""

    PROVED = "proved"
    SUPPORTED = "supported"
    SUSPECTED = "suspected"


@dataclass(frozen=True)
class Where:
    """A line of the user's code. ``file`` is relative to the project."""

    file: str
    line: int
    text: str = ""


@dataclass(frozen=True)
class Number:
    name: str
    value: Scalar
    expected: str = ""
    kind: Literal["number"] = "number"


@dataclass(frozen=True)
class Series:
    """One curve: ``y[i]`` was measured at ``x[i]``; a gap is None."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    x_label: str = "step"
    y_label: str = ""
    kind: Literal["series"] = "series"


@dataclass(frozen=True)
class Table:
    columns: Sequence[str]
    rows: Sequence[Sequence[Scalar]]
    title: str = ""
    kind: Literal["table"] = "table"


@dataclass(frozen=True)
class Text:
    title: str
    body: str
    kind: Literal["text"] = "text"


@dataclass(frozen=True)
class Trace:
    """An exception of the user's code with the user's own frames, innermost last."""

    type: str
    message: str
    frames: Sequence[Where] = ()
    kind: Literal["trace"] = "trace"


Evidence = Number | Series | Table | Text | Trace


@dataclass(frozen=True)
class Finding:
    """One thing that a probe saw. ``values`` holds every figure that ``message`` uses."""

    name: str
    severity: Severity
    message: str
    values: Mapping[str, Any] = field(default_factory=dict)
    where: Sequence[Where] = ()
    evidence: Sequence[Evidence] = ()


@dataclass(frozen=True)
class Result:
    """What one probe came to."""

    code: str
    name: str
    stage: str
    status: Status
    reason: str = ""
    findings: Sequence[Finding] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class StageResult:
    name: str
    status: Status
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Fix:
    text: str
    before: str = ""
    after: str = ""


@dataclass(frozen=True)
class Cause:
    """One defect, with everything that follows from it listed under ``consequences`` (names)."""

    name: str
    code: str
    grade: Grade
    summary: str
    values: Mapping[str, Any] = field(default_factory=dict)
    where: Sequence[Where] = ()
    fix: Fix = Fix("")
    evidence: Sequence[Evidence] = ()
    consequences: Sequence[str] = ()


@dataclass(frozen=True)
class Because:
    """A name that is ruled out or was not checked, and the reason."""

    name: str
    because: str


@dataclass(frozen=True)
class Diagnosis:
    summary: str = ""
    symptoms: Sequence[str] = ()
    causes: Sequence[Cause] = ()
    ruled_out: Sequence[Because] = ()
    not_checked: Sequence[Because] = ()


@dataclass(frozen=True)
class Expected:
    """A metric is expected to lie in [low, high] after ``epoch`` epochs (fractions for accuracies)."""

    epoch: int
    metric: str
    low: float
    high: float
    source: str = ""


@dataclass(frozen=True)
class Training:
    history: Sequence[Mapping[str, Any]] = ()
    expected: Sequence[Expected] = ()


@dataclass(frozen=True)
class RunResults:
    """The whole of ``results.json``. Accuracies are fractions from 0 to 1, losses means over samples."""

    tool_version: str
    run_id: str
    command: str
    created: str
    reproduce: str
    target: str
    verdict: Verdict
    environment: Mapping[str, Any] = field(default_factory=dict)
    pipeline: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    diagnosis: Diagnosis = Diagnosis()
    results: Sequence[Result] = ()
    stages: Sequence[StageResult] = ()
    training: Training = Training()
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION


def to_json(value: Any) -> Any:
    """Any of the dataclasses above (or plain containers) as JSON data.

    A number that JSON cannot hold (nan, inf) becomes None: a gap in a curve, an empty cell in a table.
    """
    if hasattr(value, "__dataclass_fields__"):
        return to_json(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise TypeError(f"{type(value).__name__} is not plain data: convert it before it becomes a result")
