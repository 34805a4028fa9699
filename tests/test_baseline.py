"""A baseline of known findings: what it recognises, and that only new findings fail a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from command_line import Outcome, project, run, runs

from diagnose.baseline import VERSION, new_findings, read_baseline, write_baseline
from diagnose.errors import UsageError
from probes.results import Finding, Result, RunResults, Severity, Status, Verdict, Where

slow = pytest.mark.slow  # starts a worker, which imports torch
HERE = Where("train.py", 10, "optimizer = SGD(net.parameters(), lr=10)")


def finding(name: str, where: Sequence[Where] = (), severity: Severity = Severity.ERROR) -> Finding:
    return Finding(name, severity, "message", where=where)


def results(*found: Finding) -> RunResults:
    rows = tuple(Result("XXX100", f.name, "smoke", Status.FAIL, "", (f,)) for f in found)
    return RunResults("", "", "smoke", "", "", "", Verdict.FAULTY, results=rows)


RUN = results(
    finding("learning-rate-too-high", [HERE]),
    finding("zero-learning-rate"),
    finding("unseeded-run", [HERE], Severity.NOTE),
    finding("loss-summed", [HERE], Severity.WARNING),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "known.json"


def test_what_was_written_is_known(path: Path) -> None:
    assert write_baseline(RUN, path) == 3
    assert new_findings(RUN, read_baseline(path)) == []


def test_the_file_is_versioned_and_in_order(path: Path) -> None:
    write_baseline(RUN, path)
    content = json.loads(path.read_text())
    assert content["baseline_version"] == VERSION
    names = [item["name"] for item in content["findings"]]
    assert names == ["learning-rate-too-high", "loss-summed", "zero-learning-rate"]
    assert content["findings"][0] == {"name": names[0], "file": HERE.file, "text": HERE.text}
    first = path.read_bytes()
    write_baseline(results(*reversed([f for r in RUN.results for f in r.findings])), path)
    assert path.read_bytes() == first


def test_equal_findings_are_one(path: Path) -> None:
    assert write_baseline(results(finding("loss-summed", [HERE]), finding("loss-summed", [HERE])), path) == 1


def test_a_healthy_run_gives_an_empty_baseline(path: Path) -> None:
    assert write_baseline(results(), path) == 0
    assert read_baseline(path) == set()
    assert len(new_findings(RUN, read_baseline(path))) == 3


def test_a_moved_line_is_still_known(path: Path) -> None:
    write_baseline(RUN, path)
    moved = finding("learning-rate-too-high", [Where(HERE.file, 99, HERE.text)])
    assert new_findings(results(moved), read_baseline(path)) == []


@pytest.mark.parametrize(
    "fresh",
    [
        finding("learning-rate-too-high", [Where(HERE.file, HERE.line, "optimizer = SGD(net.parameters(), lr=99)")]),
        finding("learning-rate-too-high", [Where("other.py", HERE.line, HERE.text)]),
        finding("learning-rate-too-high"),
        finding("learning-rate-too-low", [HERE]),
        finding("zero-learning-rate", [HERE]),
    ],
)
def test_another_line_file_or_name_is_new(path: Path, fresh: Finding) -> None:
    write_baseline(RUN, path)
    assert new_findings(results(fresh), read_baseline(path)) == [fresh]


def test_notes_are_never_new(path: Path) -> None:
    write_baseline(results(), path)
    assert new_findings(results(finding("cpu-only-training", severity=Severity.NOTE)), read_baseline(path)) == []


def test_a_missing_file_says_how_to_write_it(path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no such file.*--write-baseline"):
        read_baseline(path)


@pytest.mark.parametrize(
    "text",
    ["", "no JSON", "[]", "{}", '"text"', '{"findings": 3}', '{"findings": ["zero-learning-rate"]}',
     '{"findings": [{"file": "train.py"}]}'],
)  # fmt: skip
def test_a_broken_file_is_a_usage_error(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(UsageError, match="not a baseline"):
        read_baseline(path)


def test_a_folder_or_bytes_are_a_usage_error(path: Path) -> None:
    with pytest.raises(UsageError, match="not a baseline"):
        read_baseline(path.parent)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not a baseline"):
        read_baseline(path)


# -- the command line -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """A project with a softmax before its cross-entropy, and the run that wrote this down."""
    folder = project("digits", tmp_path_factory.mktemp("digits"))
    return folder, run("smoke", "digits_cnn:get_probabilities", "--write-baseline", "known.json", cwd=folder)


@slow
def test_a_run_that_writes_a_baseline_judges_as_usual(written: tuple[Path, Outcome]) -> None:
    folder, done = written
    assert done.code == 1
    assert "findings written to known.json" in done.err
    assert "softmax-before-cross-entropy" in {name for name, _, _ in read_baseline(folder / "known.json")}


@slow
def test_known_findings_do_not_fail_a_run_though_the_verdict_stays(written: tuple[Path, Outcome]) -> None:
    folder, _ = written
    done = run("smoke", "digits_cnn:get_probabilities", "--baseline", "known.json", cwd=folder)
    assert done.code == 0, done.err
    assert done.results["verdict"] == "faulty"
    assert done.causes[0] == "softmax-before-cross-entropy"


@slow
def test_a_new_finding_fails_the_run_and_is_named(written: tuple[Path, Outcome]) -> None:
    folder, _ = written
    (folder / "none.json").write_text('{"findings": []}')
    done = run("smoke", "digits_cnn:get_probabilities", "--baseline", "none.json", cwd=folder)
    assert done.code == 1
    assert "softmax-before-cross-entropy" in done.err


@pytest.fixture(scope="module", params=[None, "{}"], ids=["missing", "broken"])
def refused(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    folder = project("digits", tmp_path_factory.mktemp("refused"))
    if request.param is not None:
        (folder / "known.json").write_text(request.param)
    return folder, run("smoke", "digits_cnn:get_model", "--baseline", "known.json", cwd=folder)


@slow
def test_a_baseline_that_cannot_be_read_is_a_usage_error(refused: tuple[Path, Outcome]) -> None:
    _, done = refused
    assert (done.code, done.out) == (2, "")
    assert len(done.err.splitlines()) == 1
    assert "--baseline known.json" in done.err


@slow
def test_a_baseline_that_cannot_be_read_leaves_no_run(refused: tuple[Path, Outcome]) -> None:
    folder, _ = refused
    assert runs(folder) == []
