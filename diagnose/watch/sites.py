"""Lines of the user's code, found quickly: the same call site is looked up once."""

from __future__ import annotations

import ast
import linecache
import re
import sys
from functools import lru_cache
from types import CodeType, FrameType

from diagnose.user_code import is_user_file, place
from probes.results import Where

_cache: dict[tuple[CodeType, int], Where] = {}
_ADDS = ("append", "add", "insert", "update", "setdefault")
_ASSIGNED = re.compile(r"^\s*([A-Za-z_][\w.]*)(?:\s*:[^=]+)?\s*=[^=]")


def user_frame(depth: int = 1) -> FrameType | None:
    """The frame of the user's own code nearest to the caller."""
    frame: FrameType | None = sys._getframe(depth + 1)
    while frame is not None and not is_user_file(frame.f_code.co_filename):
        frame = frame.f_back
    return frame


def here(depth: int = 1) -> tuple[Where, ...]:
    """The line of the user's code that is running; empty where none is."""
    frame = user_frame(depth + 1)
    if frame is None:
        return ()
    key = (frame.f_code, frame.f_lineno)
    found = _cache.get(key)
    if found is None:
        found = _cache[key] = place(frame.f_code.co_filename, frame.f_lineno, frame.f_globals)
    return (found,)


def assigned_name(where: tuple[Where, ...]) -> str:
    """The variable that the line assigns to; empty if it is no plain assignment."""
    match = _ASSIGNED.match(where[0].text) if where else None
    return match[1] if match else ""


def returning(depth: int = 1) -> str:
    """The function of the user's that is returning what is made now; empty where the line that runs does not return."""
    frame, where = user_frame(depth + 1), here(depth + 1)
    return frame.f_code.co_name if frame is not None and where[0].text.startswith("return ") else ""


def assigned(depth: int = 1) -> str:
    """What the statement of the user's code that is running puts its value into: ``best``, ``self.best``, ``kept`` of
    ``kept.append(...)``; empty where it is no such statement."""
    frame = user_frame(depth + 1)
    return _target(frame.f_code.co_filename, frame.f_lineno) if frame is not None else ""


def compared(depth: int = 1) -> bool:
    """Whether the statement of the user's code that is running is made under a condition that one number is greater
    than another: ``if loss < best``."""
    frame = user_frame(depth + 1)
    return frame is not None and _is_compared(frame.f_code.co_filename, frame.f_lineno)


@lru_cache(maxsize=1024)
def _is_compared(file: str, line: int) -> bool:
    tests = [s.test for s in _around(file, line) if isinstance(s, ast.If) and s.body[0].lineno <= line]
    orders = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
    return any(isinstance(node, orders) for test in tests for node in ast.walk(test))


def _around(file: str, line: int) -> list[ast.stmt]:
    """The statements that a line is part of."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError):  # a cell of a notebook, or a file that has changed
        return []
    return [s for s in ast.walk(tree) if isinstance(s, ast.stmt) and s.lineno <= line <= (s.end_lineno or s.lineno)]


@lru_cache(maxsize=1024)
def _target(file: str, line: int) -> str:
    found = max(_around(file, line), key=lambda s: s.lineno, default=None)
    if isinstance(found, ast.Assign):
        return ast.unparse(found.targets[0])
    if isinstance(found, (ast.AnnAssign, ast.AugAssign)):
        return ast.unparse(found.target)
    call = found.value if isinstance(found, ast.Expr) else None
    added = isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in _ADDS
    return ast.unparse(call.func.value) if added else ""  # type: ignore[union-attr]
