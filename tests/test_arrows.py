"""Who may import whom (STYLE: Direction), and what the parent process never loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = {"diagnose", "probes", "reports"}
MAY = {"probes": {"probes"}, "reports": {"probes", "reports"}, "diagnose": OURS}
HEAVY = {"torch", "numpy", "pandas", "matplotlib", "sklearn", "torchvision"}
PARENT = ("cli", "execute", "session", "plan", "diagnosis", "commands", "explain", "config", "earlier", "display")


def _imports(tree: ast.AST) -> Iterator[str]:
    """Names imported at run time: what stands under ``if TYPE_CHECKING`` does not count."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield from _imports(other)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "absolute imports only"
            yield str(node.module)
        else:
            yield from _imports(node)


@pytest.mark.parametrize("package", sorted(MAY))
def test_the_arrows(package: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sorted((ROOT / package).rglob("*.py"))
        for name in _imports(ast.parse(path.read_text(encoding="utf-8")))
        if name.partition(".")[0] in OURS - MAY[package]
    ]
    assert wrong == []


def test_probe_modules_import_neither_torch_nor_numpy_at_their_top() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sorted((ROOT / "probes").rglob("*.py"))
        for statement in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(statement, (ast.Import, ast.ImportFrom))
        for name in _imports(ast.Module([statement], []))
        if name.partition(".")[0] in HEAVY
    ]
    assert wrong == []


def _loaded(code: str) -> set[str]:
    """Top-level names of all modules that a fresh interpreter holds after ``code``."""
    tell = "print('\\n' + ' '.join({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\n{tell}"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(done.stdout.splitlines()[-1].split())


def test_the_parent_process_loads_nothing_heavy() -> None:
    modules = ", ".join(f"diagnose.{name}" for name in PARENT)
    assert _loaded(f"import {modules}, reports.terminal, reports.markdown") & HEAVY == set()


@pytest.mark.parametrize("arguments", [["--help"], ["smoke", "--help"], ["explain", "dropout-too-strong"], ["probes"]])
def test_help_and_explain_load_nothing_heavy(arguments: list[str]) -> None:
    code = (
        f"sys.argv = ['diagnose', *{arguments!r}]\nfrom diagnose.cli import main\ntry: main()\nexcept SystemExit: pass"
    )
    assert _loaded(code) & HEAVY == set()


def test_none_of_our_modules_on_the_way_to_explain_loads_pydantic() -> None:
    """Typer itself may: since 0.2x it reads every argument through pydantic."""
    assert "pydantic" not in _loaded("import diagnose.cli, diagnose.explain; diagnose.explain.explain('REG701')")
