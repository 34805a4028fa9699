"""From results to an answer: ranked causes with grades, what was ruled out, what was not checked. A pure function.

- An error finding whose name is a cause becomes a cause, with the grade of its probe. So does a warning, which is
  only suspected of doing harm unless an experiment showed it.
- What a cause brings about (its ``consequences``, and every symptom) is listed under it.
- A symptom is a cause only where nothing better was found, and then only suspected.
- Among causes that experiments could not tell apart, the one that has an unusual value comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from diagnose.experiments.order import CONFIRMS, LOCALISES
from probes import catalogue
from probes.api import ProbeDoc, Stage
from probes.results import (
    Because,
    Cause,
    Diagnosis,
    Finding,
    Fix,
    Grade,
    Result,
    Severity,
    StageResult,
    Status,
    Verdict,
)

GRADES = list(Grade)  # in order of strength
# A fault further up the line explains those further down: first the process, then data, model, loss, ...
ORDER = ("ENV", "DAT", "MOD", "LOS", "GRD", "OPT", "REG", "LOP", "TRN", "FIT")
LEARNING_SYMPTOMS = frozenset(
    {"cannot-overfit", "stuck-at-chance", "fails-on-reference-data", "no-generalisation", "predicts-one-class"}
)


def diagnose(results: Sequence[Result], stages: Sequence[StageResult]) -> Diagnosis:
    findings = [(finding, result) for result in results for finding in result.findings]
    symptoms = _unique(f.name for f, _ in findings if _doc(f).symptom and f.severity is not Severity.NOTE)
    errors = {f.name for f, _ in findings if f.severity is Severity.ERROR}
    located = [f for f, _ in findings if f.name == LOCALISES]
    found = [_confirmed(_cause(f), located) for f, _ in findings if _is_cause(f)]
    causes = _ranked(_folded(found, symptoms), errors)
    if not any(_explains(c, errors) for c in causes):
        failed = [_cause(f) for f, _ in findings if _doc(f).symptom and f.severity is Severity.ERROR][:1]
        causes = [
            *(replace(c, grade=Grade.SUSPECTED, consequences=_others(symptoms, c.name)) for c in failed),
            *(replace(c, consequences=_others(c.consequences, *(f.name for f in failed))) for c in causes),
        ]
        causes.sort(key=lambda cause: GRADES.index(cause.grade))
    return Diagnosis(
        summary=_summary(causes, located, results, stages),
        symptoms=tuple(symptoms),
        causes=tuple(causes),
        ruled_out=tuple(Because(r.name, r.reason) for r in results if r.status is Status.PASS and r.reason),
        not_checked=tuple(
            Because(r.name, r.reason.splitlines()[0] if r.reason else "no reason was given")
            for r in results
            if r.status in {Status.SKIPPED, Status.INCONCLUSIVE, Status.INTERNAL}
        )
        + tuple(
            Because(f"stage {s.name}", s.reason) for s in stages if s.status in {Status.SKIPPED, Status.INCONCLUSIVE}
        ),
    )


def verdict(
    diagnosis: Diagnosis, results: Sequence[Result], stages: Sequence[StageResult], requested: Sequence[str],
    *, advisory: Sequence[str] = (),
) -> Verdict:  # fmt: skip
    """SPEC 4. ``advisory`` stages never decide by being skipped or inconclusive."""
    errors = any(f.severity is Severity.ERROR for r in results for f in r.findings)
    if errors or any(c.grade in {Grade.PROVED, Grade.SUPPORTED} for c in diagnosis.causes):
        return Verdict.FAULTY
    by_name = {stage.name: stage for stage in stages}
    for name in requested:
        if name not in by_name or (by_name[name].status is not Status.PASS and name not in advisory):
            return Verdict.INCONCLUSIVE
    return Verdict.INCONCLUSIVE if any(r.status is Status.INTERNAL for r in results) else Verdict.HEALTHY


def _doc(finding: Finding) -> ProbeDoc:
    return catalogue.doc(finding.name)


def _is_cause(finding: Finding) -> bool:
    return finding.severity is not Severity.NOTE and not _doc(finding).symptom


def _explains(cause: Cause, errors: set[str]) -> bool:
    """Whether a cause is an error itself, or brings about one that was found."""
    return cause.name in errors or bool(_reach(cause.name, errors) & errors)


def _grade(finding: Finding) -> Grade:
    """What the finding says, else its probe; a warning that no experiment stands behind is suspected."""
    if "grade" in finding.values:
        return Grade(finding.values["grade"])
    return Grade(_doc(finding).grade) if finding.severity is Severity.ERROR else Grade.SUSPECTED


def _cause(finding: Finding) -> Cause:
    doc = _doc(finding)
    # Only a finding knows the user's own line and what it should be; the catalogue's example is shown as an example.
    before, after = (str(finding.values.get(key) or "") for key in ("before", "after"))
    return Cause(
        name=finding.name,
        code=doc.code,
        grade=_grade(finding),
        summary=finding.message,
        values=finding.values,
        where=finding.where,
        fix=Fix(doc.fix, before if after else "", after),
        evidence=finding.evidence,
    )


def _confirmed(cause: Cause, located: Sequence[Finding]) -> Cause:
    """What was only suspected of a part is proved by an experiment that swaps this part alone and repairs learning."""
    for finding in located:
        if cause.name in CONFIRMS.get(str(finding.values.get("part")), ()) and cause.grade is not Grade.PROVED:
            return replace(cause, grade=Grade.PROVED, evidence=(*cause.evidence, *finding.evidence))
    return cause


def _folded(causes: list[Cause], symptoms: Sequence[str]) -> list[Cause]:
    """Each cause with what it brings about; causes that another one brings about are dropped, as are repetitions."""
    found = {cause.name: cause for cause in reversed(causes)}
    brought = {
        name: doc_name
        for doc_name in found
        for name in _reach(doc_name, set(found))
        if name in found and name != doc_name and doc_name not in _reach(name, set(found))
    }
    roots = [cause for name, cause in found.items() if name not in brought]
    return [
        replace(
            cause,
            consequences=tuple(
                _unique([n for n in found if n in _reach(cause.name, set(found)) and n != cause.name] + list(symptoms))
            ),
        )
        for cause in roots
    ]


def _reach(name: str, found: set[str]) -> set[str]:
    """Names that ``name`` brings about, through causes that were themselves found."""
    reached: set[str] = set()
    waiting = [name]
    while waiting:
        for consequence in catalogue.doc(waiting.pop()).consequences:
            if consequence not in reached:
                reached.add(consequence)
                if consequence in found:
                    waiting.append(consequence)
    return reached


def _ranked(causes: list[Cause], errors: set[str]) -> list[Cause]:
    return sorted(
        causes,
        key=lambda c: (
            GRADES.index(c.grade), not _explains(c, errors), not c.values.get("unusual"), _group(c.code), c.code,
        ),
    )  # fmt: skip


def _summary(
    causes: Sequence[Cause], located: Sequence[Finding], results: Sequence[Result], stages: Sequence[StageResult]
) -> str:
    errors = {f.name for r in results for f in r.findings if f.severity is Severity.ERROR}
    if causes and (errors or causes[0].grade is not Grade.SUSPECTED) and not catalogue.doc(causes[0].name).symptom:
        doc = catalogue.doc(causes[0].name)
        place = f" ({causes[0].where[0].file}:{causes[0].where[0].line})" if causes[0].where else ""
        return f"{doc.summary.rstrip('.')}{place}."
    if causes and errors:
        where = " ".join(finding.message for finding in located) or _localised(stages)
        return f"{catalogue.doc(causes[0].name).summary} {where}".strip()
    warnings = _unique(f.name for r in results for f in r.findings if f.severity is Severity.WARNING)
    ran = [stage.name for stage in stages if stage.status is Status.PASS]
    found = f" Worth a look: {', '.join(warnings)}." if warnings else ""
    none = "No error" if warnings else "No fault"
    return f"{none} was found in {_listed(ran)}.{found}" if ran else f"Nothing could be checked.{found}"


def _localised(stages: Sequence[StageResult]) -> str:
    """What the pattern of passed and failed stages says, where no cause was established."""
    status = {stage.name: stage.status for stage in stages}
    mnist, overfit, subset = (status.get(name) for name in (Stage.MNIST, Stage.OVERFIT, Stage.SUBSET))
    if mnist is Status.FAIL:
        return "The model, loss and optimizer fail on reference data too, so look there before you look at the data."
    if mnist is Status.PASS and overfit is Status.FAIL:
        return "They do learn reference data, so look at the data and how they are prepared."
    if overfit is Status.PASS and subset is Status.FAIL:
        return "A batch can be memorised with regularisation off, so look at the regularisation and at the data."
    return "No experiment has isolated the cause."


def _group(code: str) -> int:
    """Where a code's group stands in ORDER; the groups of other packages come last."""
    return ORDER.index(code[:3]) if code[:3] in ORDER else len(ORDER)


def _others(names: Sequence[str], *left_out: str) -> tuple[str, ...]:
    return tuple(other for other in names if other not in left_out)


def _unique(names: object) -> list[str]:
    return list(dict.fromkeys(names))  # type: ignore[call-overload]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + (" and " if len(names) > 1 else "") + names[-1] if names else "nothing"
