"""The border to the user's code: whose fault an exception is, and which lines of it are the user's."""

from __future__ import annotations

import linecache
import os
import re
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any

from diagnose.errors import UsageError
from probes.results import Where

_ROOT = Path(__file__).resolve().parent.parent
_OURS = tuple(_ROOT / name for name in ("diagnose", "probes", "reports"))
_DEMOS = _ROOT / "diagnose" / "demos"  # a demo stands in for a user's project
_LIBRARIES = tuple({Path(sysconfig.get_path(key)).resolve() for key in ("stdlib", "platstdlib")})
_INSTALLED = {"site-packages", "dist-packages"}
_FRAME_LINE = re.compile(r'^\s*File "(.+?)", line (\d+)', re.MULTILINE)


class UserCodeError(Exception):
    """The user's code raised. ``what`` says what was being done, ``original`` is the exception as it was raised."""

    def __init__(self, what: str, original: BaseException) -> None:
        super().__init__(f"{what} raised {type(original).__name__}: {original}")
        self.what = what
        self.original = original

    @property
    def frames(self) -> tuple[Where, ...]:
        return user_frames(self.original)


@contextmanager
def user_code(what: str) -> Iterator[None]:
    """Turn any Exception or SystemExit of the block into UserCodeError; usage errors pass through as they are."""
    try:
        yield
    except (UsageError, UserCodeError):
        raise
    except (Exception, SystemExit) as error:
        raise UserCodeError(what, error) from error


def user_frames(exception: BaseException) -> tuple[Where, ...]:
    """The lines of the user's own files that ``exception`` passed through, innermost last.

    For a syntax error the line itself comes last; for an exception that a loader worker sent over, the frames are read
    from the text of its message.
    """
    frames = []
    trace = exception.__traceback__
    while trace is not None:
        filename = trace.tb_frame.f_code.co_filename
        if is_user_file(filename):
            frames.append(place(filename, trace.tb_lineno, trace.tb_frame.f_globals))
        trace = trace.tb_next
    if isinstance(exception, SyntaxError) and exception.filename and is_user_file(exception.filename):
        frames.append(place(exception.filename, exception.lineno or 0))
    frames.extend(
        place(filename, int(line))
        for filename, line in _FRAME_LINE.findall(_remote_traceback(exception))
        if is_user_file(filename)
    )
    return tuple(frames)


def _remote_traceback(exception: BaseException) -> str:
    return "" if isinstance(exception, SyntaxError) else str(exception).partition("Original Traceback")[2]


def innermost_user_frame(frame: FrameType | None) -> Where | None:
    """The line of the user's code nearest to ``frame``, going outwards; None where there is none."""
    while frame is not None:
        if is_user_file(frame.f_code.co_filename):
            return place(frame.f_code.co_filename, frame.f_lineno, frame.f_globals)
        frame = frame.f_back
    return None


@lru_cache(maxsize=4096)
def is_user_file(filename: str) -> bool:
    """Whether ``filename`` belongs to the user: neither the standard library, nor installed, nor ours."""
    if filename.startswith("<"):
        return False
    path = Path(filename).resolve()
    if path.is_relative_to(_DEMOS):
        return True
    if _INSTALLED.intersection(path.parts):
        return False
    return not any(path.is_relative_to(folder) for folder in (*_LIBRARIES, *_OURS))


def loaded_user_files() -> list[Path]:
    """The source files that were imported so far, of the user's, below the current folder."""
    here = Path.cwd().resolve()
    files = {Path(getattr(module, "__file__", None) or "/") for module in list(sys.modules.values())}
    return sorted(
        p
        for p in files
        if p.suffix == ".py" and p.is_file() and is_user_file(str(p)) and p.resolve().is_relative_to(here)
    )


def place(filename: str, line: int, module_globals: dict[str, Any] | None = None) -> Where:
    text = linecache.getline(filename, line, module_globals).strip()
    return Where(file=relative_name(filename), line=line, text=text)


def relative_name(filename: str | Path) -> str:
    """``filename`` relative to the current folder, else to the first import path, else (for a demo) to where we are
    installed; as it is where it lies elsewhere."""
    return _relative(str(filename), os.getcwd(), *sys.path[:1])  # noqa: PTH109 (asked for every module)


@lru_cache(maxsize=4096)
def _relative(filename: str, *folders: str) -> str:
    path = Path(filename).resolve()
    for base in (*(Path(folder).resolve() for folder in folders), _ROOT):
        if path.is_relative_to(base):
            return path.relative_to(base).as_posix()
    return path.as_posix()
