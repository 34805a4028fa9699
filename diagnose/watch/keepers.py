"""Which variable of the user's keeps old graphs in memory, and the line that puts them there.

Looked for once, when such graphs were seen, by walking from the running frames through the user's own objects to
tensors whose graph holds tokens of ``diagnose.watch.graphs``: so what is named is known to keep them.
"""

from __future__ import annotations

import ast
import linecache
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any

from torch import Tensor

from diagnose.user_code import is_user_file, place
from probes.results import Where

TOKEN = "diagnose"
LEAST = 3  # graphs that it must keep
MOST_OBJECTS, MOST_ITEMS, MOST_DEPTH = 4_000, 64, 5
MOST_NODES, FEW_NODES = 400, 8  # of the graph of one tensor, of each of several
ADDS = ("append", "appendleft", "add", "insert", "extend", "update", "setdefault")
FREED = ("item", "detach", "tolist", "float", "numpy")


@dataclass(frozen=True)
class Keeper:
    """``name``: of the variable, "" if it was not found; ``where``: the line that adds to it, if it can be told."""

    name: str = ""
    where: tuple[Where, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.name)


def keeper(frame: FrameType | None, old: set[int]) -> Keeper:
    """``old``: ids of the tokens of graphs that should be gone; ``frame``: of the user, where backward is called."""
    frames = list(_users(frame))
    roots = [(name, value) for f in frames for name, value in f.f_locals.items()]
    roots += [(name, value) for f in frames[-1:] for name, value in f.f_globals.items()]
    waiting = deque((name, value, f"{frames[0].f_code.co_filename}" if frames else "", 0) for name, value in roots)
    files = list(dict.fromkeys(f.f_code.co_filename for f in frames))
    seen: set[int] = set()
    while waiting and len(seen) < MOST_OBJECTS:
        name, value, file, depth = waiting.popleft()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if len(_tokens_of(value) & old) >= LEAST:
            return Keeper(name, _adding(name, list(dict.fromkeys([file, *files])), frames))
        if depth < MOST_DEPTH:
            waiting.extend((*child, depth + 1) for child in _children(name, value, file))
    return Keeper()


def _users(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        if is_user_file(frame.f_code.co_filename):
            yield frame
        frame = frame.f_back


def _tokens_of(value: Any) -> set[int]:
    """Ids of the tokens in the graph of a tensor, or of the tensors that a container holds."""
    if isinstance(value, Tensor):
        return _tokens_in(value, MOST_NODES)
    if isinstance(value, (list, tuple, set, deque, dict)):
        items = list(value.values() if isinstance(value, dict) else value)[:MOST_ITEMS]
        return set().union(*(_tokens_in(item, FEW_NODES) for item in items if isinstance(item, Tensor)))
    return set()


def _tokens_in(tensor: Tensor, most: int) -> set[int]:
    waiting: deque[Any] = deque([tensor.grad_fn])
    seen: set[Any] = set()
    found = set()
    while waiting and len(seen) < most:
        node = waiting.popleft()
        if node is None or node in seen or not hasattr(node, "metadata"):
            continue
        seen.add(node)
        if TOKEN in node.metadata:
            found.add(id(node.metadata[TOKEN]))
        waiting.extend(parent for parent, _ in node.next_functions)
    return found


def _children(name: str, value: Any, file: str) -> Iterator[tuple[str, Any, str]]:
    if isinstance(value, Mapping):
        items = list(value.items())[:MOST_ITEMS]
        yield from ((f"{name}[{key!r}]", item, file) for key, item in items if isinstance(key, (str, int)))
    elif isinstance(value, (list, tuple, deque)):
        yield from ((f"{name}[{i}]", item, file) for i, item in enumerate(list(value)[:MOST_ITEMS]))
    elif hasattr(value, "__dict__") and not isinstance(value, type) and not isinstance(value, Tensor):
        module = sys.modules.get(type(value).__module__)
        own = getattr(module, "__file__", None) or ""
        if own and is_user_file(own):
            yield from ((f"{name}.{key}", item, own) for key, item in list(vars(value).items())[:MOST_ITEMS])


def _adding(name: str, files: list[str], frames: list[FrameType]) -> tuple[Where, ...]:
    """The one statement that puts something into the variable, by its last part: ``self.losses`` of a callback has
    another name where backward runs."""
    for file in files:
        lines = {line for target, line in _statements(file) if _last(target) == _last(name)}
        if len(lines) == 1:
            scope = next((f.f_globals for f in frames if f.f_code.co_filename == file), {})
            return (place(file, lines.pop(), scope),)
    return ()


def _last(name: str) -> str:
    """``losses`` of ``self.losses``, ``['g']`` of ``history['g']``."""
    return name[name.rindex("[") :] if name.endswith("]") else name.rpartition(".")[2]


def _statements(file: str) -> Iterator[tuple[str, int]]:
    """(variable, line) of what adds a value to a variable as it is, not as a number."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError):  # a cell of a notebook, or a file that has changed
        return
    for node in ast.walk(tree):
        target: ast.expr | None = None
        value: list[ast.expr] = []
        if isinstance(node, ast.AugAssign):
            target, value = node.target, [node.value]
        elif isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, value = node.targets[0], [node.value]
            if ast.unparse(target) not in ast.unparse(node.value):
                continue
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ADDS:
            target, value = node.func.value, node.args
        if target is not None and not any(_frees(part) for part in value):
            yield ast.unparse(target), target.lineno


def _frees(value: ast.expr) -> bool:
    """Whether it ends in a number, or in a tensor without a graph."""
    names = [n.attr if isinstance(n, ast.Attribute) else n.id for n in ast.walk(value)
             if isinstance(n, (ast.Attribute, ast.Name))]  # fmt: skip
    return any(name in FREED for name in names) or isinstance(value, ast.Constant)
