"""Lines of the user's code, found quickly: the same call site is looked up once."""

from __future__ import annotations

import re
import sys
from types import CodeType, FrameType

from diagnose.user_code import is_user_file, place
from probes.results import Where

_cache: dict[tuple[CodeType, int], Where] = {}
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
