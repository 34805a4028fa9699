"""From results to causes: what is folded, ranked, demoted, and never claimed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose.diagnosis import GRADES, diagnose, verdict
from probes import catalogue
from probes.api import Stage
from probes.results import Finding, Grade, Result, Severity, StageResult, Status, Verdict, Where

NAMES = catalogue.names()
STAGES = [str(stage) for stage in Stage]


def found(name: str, severity: Severity | None = None, **values: Any) -> Result:
    """A failed probe with one finding of its name."""
    doc = catalogue.doc(name)
    finding = Finding(name, doc.severity if severity is None else severity, f"{name} was seen", values)
    return Result(doc.code, name, str(doc.stage), Status.FAIL, finding.message, (finding,))


def came_to(name: str, status: Status, reason: str = "because") -> Result:
    doc = catalogue.doc(name)
    return Result(doc.code, name, str(doc.stage), status, reason)


def stage(name: Stage, status: Status) -> StageResult:
    return StageResult(str(name), status, "" if status is Status.PASS else "a reason")


# -- properties ---------------------------------------------------------------------------------------------------


@st.composite
def results(draw: st.DrawFn) -> list[Result]:
    made = []
    for name in draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=12)):
        doc = catalogue.doc(name)
        status = draw(st.sampled_from(list(Status)))
        findings: tuple[Finding, ...] = ()
        if status in {Status.FAIL, Status.CRASHED, Status.INTERNAL}:
            values = {"grade": str(draw(st.sampled_from(list(Grade))))} if draw(st.booleans()) else {}
            where = (Where("models.py", 3, "x"),) if draw(st.booleans()) else ()
            times = draw(st.integers(1, 2))
            findings = (Finding(name, draw(st.sampled_from(list(Severity))), "m", values, where),) * times
        reason = draw(st.sampled_from(["", "one line", "two\nlines"]))
        made.append(Result(doc.code, name, str(doc.stage), status, reason, findings))
    return made


@st.composite
def stage_results(draw: st.DrawFn) -> list[StageResult]:
    names = draw(st.lists(st.sampled_from(STAGES), unique=True))
    return [StageResult(name, draw(st.sampled_from(list(Status))), "why") for name in names]


@settings(deadline=None)
@given(results(), stage_results())
def test_any_results_give_an_answer(given_results: list[Result], stages: list[StageResult]) -> None:
    diagnosis = diagnose(given_results, stages)
    assert diagnosis.summary
    causes = diagnosis.causes
    names = [cause.name for cause in causes]
    assert len(set(names)) == len(names)
    assert [GRADES.index(c.grade) for c in causes] == sorted(GRADES.index(c.grade) for c in causes)
    for cause in causes:
        assert cause.name not in cause.consequences
        assert not set(cause.consequences) & set(names), "one defect gives one cause"
    errors = {f.name for r in given_results for f in r.findings if f.severity is Severity.ERROR}
    warnings = {f.name for r in given_results for f in r.findings if f.severity is Severity.WARNING}
    assert set(names) <= errors | warnings
    assert bool(causes) >= bool(errors)
    explained = {name for cause in causes for name in (cause.name, *cause.consequences)}
    assert errors <= explained, "an error is a cause, or is listed under one"


@settings(deadline=None)
@given(results(), stage_results())
def test_a_skip_never_shows_as_pass(given_results: list[Result], stages: list[StageResult]) -> None:
    diagnosis = diagnose(given_results, stages)
    passed = {r.name for r in given_results if r.status is Status.PASS}
    assert {because.name for because in diagnosis.ruled_out} <= passed
    unchecked = {Status.SKIPPED, Status.INCONCLUSIVE, Status.INTERNAL}
    told = {because.name: because.because for because in diagnosis.not_checked}
    for result in given_results:
        assert (result.name in told) == (result.status in unchecked)
    assert all(reason and "\n" not in reason for reason in told.values())
    said = verdict(diagnosis, given_results, stages, STAGES)
    if said is Verdict.HEALTHY:
        assert {s.name for s in stages if s.status is Status.PASS} == set(STAGES)


# -- causes, symptoms, grades ---------------------------------------------------------------------------------------


def test_a_symptom_alone_is_only_suspected() -> None:
    diagnosis = diagnose([found("cannot-overfit", grade="proved"), found("stuck-at-chance")], [])
    (cause,) = diagnosis.causes
    assert (cause.name, cause.grade) == ("cannot-overfit", Grade.SUSPECTED)
    assert cause.consequences == ("stuck-at-chance",)


def test_a_cause_takes_the_symptoms_with_it() -> None:
    diagnosis = diagnose([found("stuck-at-chance"), found("dropout-too-strong", grade="proved")], [])
    (cause,) = diagnosis.causes
    assert (cause.name, cause.grade) == ("dropout-too-strong", Grade.PROVED)
    assert "stuck-at-chance" in cause.consequences
    assert list(diagnosis.symptoms) == ["stuck-at-chance"]


def test_a_consequence_is_listed_under_its_cause() -> None:
    brought = [(name, other) for name in NAMES for other in catalogue.doc(name).consequences if other in NAMES]
    for name, other in brought:
        if catalogue.doc(name).symptom or catalogue.doc(other).symptom:
            continue
        diagnosis = diagnose([found(other, Severity.ERROR), found(name, Severity.ERROR)], [])
        assert [cause.name for cause in diagnosis.causes] == [name]
        assert other in diagnosis.causes[0].consequences


def test_of_causes_that_could_not_be_told_apart_the_unusual_value_comes_first() -> None:
    usual = found("learning-rate-too-high", grade="supported", unusual=False)
    unusual = found("dropout-too-strong", grade="supported", unusual=True)
    assert [c.name for c in diagnose([usual, unusual], []).causes] == ["dropout-too-strong", "learning-rate-too-high"]
    assert [c.name for c in diagnose([unusual, usual], []).causes] == ["dropout-too-strong", "learning-rate-too-high"]


def test_what_is_suspected_of_a_part_is_proved_by_swapping_just_that_part() -> None:
    suspected = found("saturated-activations", severity=Severity.WARNING)
    localised = found("learns-with-another-part", severity=Severity.NOTE, part="initialisation")
    other = found("learns-with-another-part", severity=Severity.NOTE, part="model")
    assert diagnose([suspected, localised], []).causes[0].grade is Grade.PROVED
    assert diagnose([suspected, other], []).causes[0].grade is Grade.SUSPECTED


def test_what_is_proved_comes_first_wherever_it_lies() -> None:
    given_results = [found("labels-out-of-range", grade="suspected"), found("zero-learning-rate", grade="proved")]
    assert diagnose(given_results, []).causes[0].name == "zero-learning-rate"


@pytest.mark.parametrize("severity", [Severity.WARNING, Severity.NOTE])
def test_a_warning_is_suspected_at_most_and_a_note_of_nothing(severity: Severity) -> None:
    given_results = [found(name, severity) for name in NAMES]
    stages = [stage(Stage.SMOKE, Status.PASS)]
    diagnosis = diagnose(given_results, stages)
    assert bool(diagnosis.causes) is (severity is Severity.WARNING)
    assert {cause.grade for cause in diagnosis.causes} <= {Grade.SUSPECTED}
    assert ("Worth a look" in diagnosis.summary) is (severity is Severity.WARNING)
    assert verdict(diagnosis, given_results, stages, [Stage.SMOKE]) is Verdict.HEALTHY


def test_a_warning_that_explains_a_failure_comes_before_it() -> None:
    given_results = [found("cannot-overfit"), found("missing-classes", Severity.WARNING)]
    unexplained = diagnose(given_results, []).causes
    assert [cause.name for cause in unexplained] == ["cannot-overfit", "missing-classes"]
    shown = diagnose([found("stuck-at-chance"), found("adam-epsilon-out-of-range", Severity.WARNING)], []).causes
    assert shown[0].name == "adam-epsilon-out-of-range"
    assert "stuck-at-chance" in shown[0].consequences


def test_healthy_says_what_ran() -> None:
    stages = [stage(Stage.DATA, Status.PASS), stage(Stage.SMOKE, Status.PASS)]
    diagnosis = diagnose([came_to("dead-relu", Status.PASS, "fine")], stages)
    assert diagnosis.summary == "No fault was found in data and smoke."
    assert [because.name for because in diagnosis.ruled_out] == ["dead-relu"]


# -- what the pattern of stages says (SPEC 1) ----------------------------------------------------------------------

PATTERNS = {
    "mnist fails": ({Stage.MNIST: Status.FAIL, Stage.OVERFIT: Status.FAIL}, "fail on reference data too"),
    "mnist passes, overfit fails": ({Stage.MNIST: Status.PASS, Stage.OVERFIT: Status.FAIL}, "look at the data"),
    "overfit passes, subset fails": ({Stage.OVERFIT: Status.PASS, Stage.SUBSET: Status.FAIL}, "regularisation"),
    "subset fails alone": ({Stage.SUBSET: Status.FAIL}, "No experiment has isolated the cause"),
}


@pytest.mark.parametrize("pattern", list(PATTERNS))
def test_the_pattern_of_stages_points_somewhere(pattern: str) -> None:
    stages, said = PATTERNS[pattern]
    diagnosis = diagnose([found("stuck-at-chance")], [stage(name, status) for name, status in stages.items()])
    assert said in diagnosis.summary
    assert diagnosis.causes[0].grade is Grade.SUSPECTED


# -- the verdict -----------------------------------------------------------------------------------------------------


def test_verdicts() -> None:
    passed = [stage(Stage.SMOKE, Status.PASS), stage(Stage.MNIST, Status.SKIPPED)]
    wanted = ["smoke", "mnist"]
    clean = diagnose([], passed)
    assert verdict(clean, [], passed, wanted) is Verdict.INCONCLUSIVE
    assert verdict(clean, [], passed, wanted, advisory=["mnist"]) is Verdict.HEALTHY
    assert verdict(clean, [], passed, ["smoke", "train"]) is Verdict.INCONCLUSIVE
    faulty = [found("zero-learning-rate")]
    assert verdict(diagnose(faulty, passed), faulty, passed, wanted) is Verdict.FAULTY
    ours = [came_to("dead-relu", Status.INTERNAL)]
    assert verdict(diagnose(ours, passed), ours, passed, ["smoke"]) is Verdict.INCONCLUSIVE
