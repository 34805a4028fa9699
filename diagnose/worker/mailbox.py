"""One-way channel of JSON lines through a file.

Every line is written by opening the file by its path, so code that closes or reuses our descriptors can neither
break the channel nor receive its bytes, and what was written before a crash stays. One reader, any number of writers.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from probes.results import to_json


def append(path: Path, obj: Any) -> None:
    """Add one line. ``obj`` is plain data or a dataclass of ours; nan and inf become null.

    Raises TypeError for anything else, OSError when the file cannot be written.
    """
    line = json.dumps(to_json(obj), allow_nan=False).encode("ascii") + b"\n"
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
    try:
        if _is_torn(descriptor):
            line = b"\n" + line
        while line:  # a regular file takes all at once, except on a full disk or a signal
            line = line[os.write(descriptor, line) :]
    finally:
        os.close(descriptor)


def _is_torn(descriptor: int) -> bool:
    """Whether a writer died in the middle of the last line."""
    size = os.lseek(descriptor, 0, os.SEEK_END)
    if size == 0:
        return False
    os.lseek(descriptor, size - 1, os.SEEK_SET)
    return os.read(descriptor, 1) != b"\n"


class Tail:
    """Reads what was appended since the last read; a line that is not complete yet is left for the next one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0

    def read(self) -> list[Any]:
        """The new objects, oldest first. Lines that are no JSON (torn by a death) are skipped."""
        try:
            if self.path.stat().st_size <= self._offset:
                return []
            with self.path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        complete = data[: data.rfind(b"\n") + 1]
        self._offset += len(complete)
        return list(_parsed(complete))


def _parsed(data: bytes) -> list[Any]:
    objects = []
    for line in data.splitlines():
        try:
            objects.append(json.loads(line))
        except ValueError:
            continue
    return objects
