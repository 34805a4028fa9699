"""What is run: a script, a module, or the cells of a notebook, compiled as ``python`` would."""

from __future__ import annotations

import importlib.util
import io
import json
import linecache
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from itertools import pairwise
from pathlib import Path
from types import CodeType
from typing import Any

_MAGIC = re.compile(r"^(\s*)([%!?].*|.*\?\s*)$")


@dataclass(frozen=True)
class Program:
    """``codes`` are run one after the other in the same namespace. ``folder``: the first entry of ``sys.path``."""

    codes: Sequence[CodeType]
    file: str
    folder: str
    spec: ModuleSpec | None = None
    cells_back: Sequence[tuple[int, int]] = ()
    extra: dict[str, Any] = field(default_factory=dict)


def read_script(path: str) -> Program:
    file = str(Path(path).absolute())
    with io.open_code(file) as content:
        code = compile(content.read(), file, "exec")
    return Program([code], file, str(Path(path).resolve().parent))


def read_module(name: str) -> Program:
    """Raises ImportError where there is none; the current folder is importable already."""
    spec = importlib.util.find_spec(name)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = importlib.util.find_spec(f"{name}.__main__")
    loader = None if spec is None else spec.loader
    code = loader.get_code(spec.name) if spec is not None and hasattr(loader, "get_code") else None  # type: ignore[union-attr]
    if spec is None or code is None:
        raise ImportError(f"No module named {name}")
    return Program([code], spec.origin or name, str(Path.cwd()), spec)


def read_notebook(path: str) -> Program:
    """Its code cells in their order in the file; lines for the notebook's own machinery (``%``, ``!``) are left out."""
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    cells = [cell for cell in content["cells"] if cell.get("cell_type") == "code"]
    codes = []
    for number, cell in enumerate(cells, start=1):
        source = cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])
        if source.startswith("%%"):
            continue
        lines = [_without_magic(line) for line in source.splitlines(keepends=True)]
        name = f"{path}[{number}]"
        linecache.cache[name] = (len(source), None, lines, name)
        codes.append(compile("".join(lines), name, "exec"))
    counts = [cell["execution_count"] for cell in cells if isinstance(cell.get("execution_count"), int)]
    back = [(a, b) for a, b in pairwise(counts) if b < a]
    extra = {"display": print} if importlib.util.find_spec("IPython") is None else {}
    return Program(codes, path, str(Path(path).resolve().parent), cells_back=tuple(back), extra=extra)


def _without_magic(line: str) -> str:
    found = _MAGIC.match(line.rstrip("\n"))
    return f"{found[1]}pass  # {found[2]}\n" if found and not line.lstrip().startswith("#") else line
