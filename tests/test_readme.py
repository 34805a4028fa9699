"""What the README and CI promise: the same commands, and only commands and files that exist."""

from __future__ import annotations

import re
import shlex
import stat
from pathlib import Path

import pytest
import typer

from diagnose.cli import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CI = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [page for page in PAGES if page.name != "bad-input.md"]  # holds wrong commands on purpose
COMMANDS = typer.main.get_command(app)


def shell_lines(text: str) -> list[str]:
    """Lines of ``sh`` and ``yaml`` blocks that call a program, without comments."""
    blocks = re.findall(r"(?ms)^```(?:sh|yaml)\n(.*?)^```", text)
    lines = [line.split(" #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line.removeprefix("- run: ") for line in lines if line]


def calls(text: str) -> list[list[str]]:
    """Every call of ``diagnose``: in blocks, and between backticks."""
    spans = re.findall(r"`(diagnose [^`\n]+)`", re.sub(r"(?ms)^```.*?^```", "", text))
    parts = [part.strip() for line in [*shell_lines(text), *spans] for part in line.split("&&")]
    return [shlex.split(part)[1:] for part in parts if part.startswith("diagnose ")]


def test_ci_runs_exactly_the_readme_test_command() -> None:
    (second,) = [line for line in shell_lines(README) if "pytest" in line]
    install, test = (part.strip() for part in second.split("&&"))
    lines = [line.split(" #")[0].strip() for line in CI.splitlines()]
    assert install in lines
    assert any(re.match(rf"{re.escape(test)}( 2>&1)? \|", line) for line in lines)
    assert lines.index("set -euo pipefail") < lines.index(install)
    for check in ("ruff check", "ruff format --check", "mypy"):
        assert f"{check} || failed=1" in lines
    assert (ROOT / ".ci" / "run").stat().st_mode & stat.S_IXUSR


def test_the_first_screen_holds_the_two_commands() -> None:
    first = "\n".join(README.splitlines()[:12])
    assert "pip install . && diagnose demo" in first
    assert "pip install -e '.[dev]' && pytest" in first


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_docs_exist(page: Path) -> None:
    for words in calls(page.read_text(encoding="utf-8")):
        name = words[0]
        if name == "...":
            continue
        assert isinstance(COMMANDS, typer.core.TyperGroup)
        assert name in COMMANDS.commands, f"diagnose {' '.join(words)}"
        known = {flag for parameter in COMMANDS.commands[name].params for flag in parameter.opts}
        flags = {word.split("=")[0] for word in words[1:] if word.startswith("--")}
        assert flags <= known, f"diagnose {' '.join(words)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_flags_in_the_docs_exist(page: Path) -> None:
    known = {flag for command in COMMANDS.commands.values() for p in command.params for flag in p.opts}  # type: ignore[attr-defined]
    others = {
        "--update-golden",
        "--list",
        "--check",
        "--nproc-per-node",
        "--no-python",
        "--cpu",
        "--seeds",
        "--rounds",
        "--peers",
    }  # not of ours
    found = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", page.read_text(encoding="utf-8")))
    assert found <= known | others


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_links_lead_somewhere_and_no_path_is_absolute(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", re.sub(r"`[^`\n]*`", "", text)):
        assert (page.parent / target).exists(), target
    assert not re.search(r"(?<![\w.])/(home|root|work|tmp|Users)/", text)


def test_the_tree_is_that_of_the_repository() -> None:
    (tree,) = re.findall(r"(?ms)^## The tree\n+```\n(.*?)^```", README)
    folder = ROOT
    for line in tree.splitlines():
        if not line.startswith(" "):
            folder = ROOT / line.split()[0]
            assert folder.is_dir(), line
        for name in re.findall(r"(?<![\w/])[a-z_*]+(?:\.py|/)(?=\s)", line):
            assert list(folder.glob(name.rstrip("/"))) or folder.name == name.rstrip("/"), f"{folder.name}: {name}"


def test_readme_examples_are_python() -> None:
    blocks = re.findall(r"(?ms)^```python\n(.*?)^```", README)
    assert blocks
    for block in blocks:
        compile(block, "README.md", "exec")


def test_hooks_are_local() -> None:
    text = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert re.findall(r"- repo: (\S+)", text) == ["local"]
    assert re.findall(r"- id: (\S+)", text) == ["ruff", "ruff-format", "mypy"]
