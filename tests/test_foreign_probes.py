"""Probes of other packages: found by their entry point, judged like ours, and told about where they are broken."""

from __future__ import annotations

import importlib.metadata
import textwrap
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import small_pipelines as small
from command_line import project, run
from probing import judge

from probes import catalogue
from probes.results import Status

slow = pytest.mark.slow  # starts a worker, which imports torch
NAME, CODE = "odd-batch-size", "ACM101"
TEMPLATE = '''
"""Batches of an odd size."""

from probes.api import ProbeDoc, Skip, Stage

DOC = ProbeDoc(
    code="{code}",
    name="{name}",
    stage=Stage.DATA,
    summary="A batch holds an odd number of samples.",
    why="Pairs are formed within it.",
    fix="Choose an even batch size.",
)


def run(ctx):
    size = ctx.batch().size
    if size % 2:
        yield DOC.finding("a batch holds {{size}} samples", size=size)
    return f"batches of {{size}}"
'''
GOOD = TEMPLATE.format(code=CODE, name=NAME)
Install = Callable[..., None]


def forget() -> None:
    catalogue._external.cache_clear()
    catalogue.module.cache_clear()


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Install]:
    """``install(name=source)``: what offers each name, as the text of a module of its own."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def offer(**sources: str) -> None:
        entries = []
        for number, (name, source) in enumerate(sources.items()):
            module = f"offered_{tmp_path.name}_{number}".replace("-", "_")
            (tmp_path / f"{module}.py").write_text(source)
            entries.append(EntryPoint(name.replace("_", "-"), module, catalogue.GROUP))
        real = importlib.metadata.entry_points

        def entry_points(**asked: Any) -> Any:
            return entries if asked.get("group") == catalogue.GROUP else real(**asked)

        monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
        forget()

    yield offer
    forget()


def test_a_good_one_is_listed_behind_ours(install: Install) -> None:
    install(odd_batch_size=GOOD)
    assert catalogue.names() == [*catalogue.builtin_names(), NAME]
    assert catalogue.broken() == {}
    assert catalogue.doc(NAME).code == CODE


@pytest.mark.parametrize("asked", [NAME, "Odd_Batch_Size", CODE, CODE.lower()])
def test_it_is_found_by_name_and_code(install: Install, asked: str) -> None:
    install(odd_batch_size=GOOD)
    assert catalogue.resolve(asked) == NAME


def test_a_near_miss_names_it(install: Install) -> None:
    install(odd_batch_size=GOOD)
    assert NAME in catalogue.near("odd-batch-sizes")


def test_it_passes_and_finds_like_ours(install: Install) -> None:
    install(odd_batch_size=GOOD)
    passed = judge(NAME, small.plain_cnn)
    assert (passed.status, passed.result.reason, passed.result.code) == (Status.PASS, "batches of 32", CODE)
    failed = judge(NAME, lambda: small.digits_cnn(n=31))
    assert failed.status is Status.FAIL
    assert failed.names == [NAME]
    assert failed.values == {"size": 31}


def test_it_may_skip(install: Install) -> None:
    install(odd_batch_size=GOOD.replace("size = ctx", 'raise Skip("not here")\n    size = ctx'))
    judged = judge(NAME, small.plain_cnn)
    assert (judged.status, judged.result.reason) == (Status.SKIPPED, "not here")


def test_an_error_of_its_own_is_blamed_on_it(install: Install) -> None:
    install(odd_batch_size=GOOD.replace("size % 2", "size % 0"))
    judged = judge(NAME, small.plain_cnn)
    assert judged.status is Status.INTERNAL
    assert NAME in judged.result.reason.splitlines()[0]
    assert "ZeroDivisionError" in judged.result.reason.splitlines()[0]


BROKEN = {
    "a missing import": (NAME, "import no_such_package_of_anyone", "ModuleNotFoundError"),
    "a syntax error": (NAME, "def run(ctx:", "SyntaxError"),
    "an error at import": (NAME, "1 / 0", "ZeroDivisionError"),
    "another name in its documentation": (NAME, TEMPLATE.format(code=CODE, name="even-batch-size"), "even-batch-size"),
    "the name of one of ours": ("empty-loader", TEMPLATE.format(code=CODE, name="empty-loader"), "taken"),
    "a prefix of ours": (NAME, TEMPLATE.format(code="DAT999", name=NAME), "taken"),
    "no documentation": (NAME, "def run(ctx):\n    yield\n", "DOC"),
    "documentation of another kind": (NAME, "DOC = {}\ndef run(ctx):\n    yield\n", "DOC"),
    "nothing to run": (NAME, GOOD.partition("def run")[0], "run(ctx)"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_one_is_told_and_harms_nothing(install: Install, case: str) -> None:
    name, source, reason = BROKEN[case]
    install(**{name.replace("-", "_"): source})
    assert catalogue.names() == catalogue.builtin_names()
    assert list(catalogue.broken()) == [name]
    assert reason in catalogue.broken()[name]
    assert f"the probe {name} of" in catalogue.broken()[name]
    assert judge("empty-loader", small.plain_cnn).status is Status.PASS


def test_a_broken_one_is_unknown(install: Install) -> None:
    install(odd_batch_size="1 / 0")
    assert catalogue.resolve(NAME) is None
    with pytest.raises(KeyError):
        catalogue.module(NAME)


def test_one_that_exits_at_import_is_broken(install: Install) -> None:
    install(odd_batch_size="raise SystemExit(0)")
    assert list(catalogue.broken()) == [NAME]


def test_a_broken_one_leaves_a_good_one_alone(install: Install) -> None:
    install(broken_one="1 / 0", odd_batch_size=GOOD)
    assert catalogue.names()[-1] == NAME
    assert list(catalogue.broken()) == ["broken-one"]


# -- the command line -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH that holds an installed distribution with a good and a broken probe."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "acme_good.py").write_text(GOOD)
    (folder / "acme_broken.py").write_text("import no_such_package_of_anyone\n")
    info = folder / "acme_probes-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-probes\nVersion: 1.0\n")
    entries = f"[{catalogue.GROUP}]\n{NAME} = acme_good\nbroken-one = acme_broken\n"
    (info / "entry_points.txt").write_text(textwrap.dedent(entries))
    return folder


def test_the_commands_know_it(site: Path, tmp_path: Path) -> None:
    listing = run("probes", cwd=tmp_path, PYTHONPATH=str(site))
    assert listing.code == 0
    lines = {line.split()[1]: line for line in listing.out.splitlines()}
    assert lines[NAME].startswith(CODE)
    assert "acme-probes" in lines["broken-one"]
    assert "no_such_package_of_anyone" in lines["broken-one"]
    assert run("explain", CODE, cwd=tmp_path, PYTHONPATH=str(site)).out.startswith(NAME)


@slow
def test_a_run_holds_its_result(site: Path, tmp_path: Path) -> None:
    folder = project("digits", tmp_path)
    done = run("data", "digits_cnn:get_model", "--only", cwd=folder, PYTHONPATH=str(site))
    assert done.code == 0, done.err
    assert done.results["verdict"] == "healthy"
    found = {result["name"]: result for result in done.results["results"]}
    assert (found[NAME]["status"], found[NAME]["reason"]) == ("pass", "batches of 32")
    assert found["broken-one"]["status"] == "skipped"
    assert "no_such_package_of_anyone" in found["broken-one"]["reason"]


@slow
def test_what_it_finds_is_a_cause(site: Path, tmp_path: Path) -> None:
    folder = project("digits", tmp_path)
    selected = ("--only", "--select", NAME, "--set", "data.batch_size=31")
    done = run("data", "digits_cnn:get_model", *selected, cwd=folder, PYTHONPATH=str(site))
    assert done.code == 1, done.err
    assert done.status(NAME) == "fail"
    assert done.causes == [NAME]
