"""What a probe is.

A probe is one module: a ``DOC`` (data first), then, where it judges by itself, one short function
``run(ctx) -> Findings``. It asks the context for shared measurements, which are taken once, and only judges.

A fact worth telling when nothing is wrong ("outputs (64, 200)") is the generator's return value: it becomes the reason
of the ``pass``. Outcomes: findings were yielded -> ``fail`` (``pass`` if all of them are notes); nothing was yielded
-> ``pass``; ``raise Skip(reason)`` -> ``skipped``; ``raise Inconclusive(reason)`` -> ``inconclusive``. A failure of the
user's own code inside a measurement reaches the runner as ``crashed``; any other exception is the tool's fault:
``internal``.

A module that can judge the user's own loop has ``watched(loop) -> Findings`` too (or only), over the record of
``probes.records.loop`` and in the same manner.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from probes.results import Evidence, Finding, Grade, Severity, Where

if TYPE_CHECKING:
    from probes.measurements import Context


class Stage(StrEnum):
    """The stages of a run, in the order in which they run."""

    DATA = "data"
    SMOKE = "smoke"
    MNIST = "mnist"
    OVERFIT = "overfit"
    SUBSET = "subset"
    TRAIN = "train"
    EVALUATE = "evaluate"
    WATCH = "watch"  # the user's own loop, by a command of its own: no part of a run


class Skip(Exception):
    """The probe does not apply here; the argument is the reason, in the user's terms."""


class Inconclusive(Exception):
    """The probe applies but could not decide; the argument is the reason."""


class Fitting(str):
    """Advice that a report gives only where the finding's ``values`` have all of ``needs``: what is said of a layer
    fits a model that has such a layer. ``explain`` and the docs give all advice."""

    needs: tuple[str, ...]

    def __new__(cls, text: str, *needs: str) -> Fitting:
        made = super().__new__(cls, text)
        made.needs = needs
        return made


def fits(advice: str, values: Mapping[str, Any]) -> bool:
    """Whether advice fits a finding with these values."""
    return not isinstance(advice, Fitting) or all(name in values for name in advice.needs)


@dataclass(frozen=True)
class ProbeDoc:
    """Everything the tool says about a defect outside a finding; the source of ``explain``, report and docs.

    ``symptom``: the name describes what is seen, not why. ``grade``: how well a finding establishes the name, unless
    the finding's ``values["grade"]`` says otherwise: ``proved`` for what is observed directly, ``supported`` or
    ``suspected`` for what is inferred. ``experiment``: runs only after a stage of learning failed, as part of it;
    with ``hampers`` after a short training that learned, too, for the setting may hold it back.
    ``judged_by``: who decides where the module has no ``run`` ("worker", "run"). ``requires``: names whose failure
    makes this probe meaningless; it is skipped then. ``also``: further stages that the probe fits; it runs once, in the
    first of its stages that the run includes.
    ``consequences``: names that this defect brings about, folded under it in the diagnosis.
    ``takeaways`` and ``ladder`` feed the report: principles to remember, and what to try next if the fix does not do;
    what does not fit every finding is ``Fitting``.
    """

    code: str
    name: str
    stage: Stage
    summary: str
    why: str
    fix: str
    severity: Severity = Severity.ERROR
    also: Sequence[Stage] = ()
    symptom: bool = False
    grade: Grade = Grade.PROVED
    experiment: bool = False
    hampers: bool = False
    judged_by: str = ""
    requires: Sequence[str] = ()
    consequences: Sequence[str] = ()
    before: str = ""
    after: str = ""
    takeaways: Sequence[str] = ()
    ladder: Sequence[str] = ()
    references: Sequence[str] = ()

    def finding(
        self,
        message: str,
        *,
        where: Sequence[Where] = (),
        evidence: Sequence[Evidence] = (),
        severity: Severity | None = None,
        **values: Any,
    ) -> Finding:
        """A finding whose message is ``message.format(**values)``, so that it holds no figure outside ``values``."""
        return Finding(
            name=self.name,
            severity=self.severity if severity is None else severity,
            message=message.format(**values),
            values={key: _plain(value) for key, value in values.items()},
            where=tuple(where),
            evidence=tuple(evidence),
        )


def _plain(value: Any) -> Any:
    """A figure that JSON cannot hold is kept as the text that ``float()`` reads back."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


Findings = Generator[Finding, None, str]
"""What ``run`` is declared to return: its findings, then the fact that becomes the reason of a ``pass``."""


class Probe(Protocol):
    """The shape of a probe module that judges by itself."""

    DOC: ProbeDoc

    def run(self, ctx: Context) -> Findings: ...
