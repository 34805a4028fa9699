"""What a worker prints: into a file of bounded size, and to a callback line by line."""

from __future__ import annotations

import os
import selectors
import threading
from collections.abc import Callable
from pathlib import Path

HEAD_BYTES = 1_000_000
TAIL_BYTES = 1_000_000
RECENT_BYTES = 8_000  # shown with a death
_CHUNK_BYTES = 65_536


class CappedLog:
    """Keeps the first and the last megabyte on disk; an earlier log in the same file counts as already written."""

    def __init__(self, path: Path, on_line: Callable[[str], None] | None = None) -> None:
        self._file = path.open("r+b" if path.exists() else "w+b", buffering=0)
        self._size = self._file.seek(0, os.SEEK_END)
        self._left_out = 0
        self._recent = b""
        self._on_line = on_line
        self._line = b""

    def write(self, data: bytes) -> None:
        self._recent = (self._recent + data)[-RECENT_BYTES:]
        self._offer(data)
        self._file.write(data)
        self._size += len(data)
        if self._size > HEAD_BYTES + 2 * TAIL_BYTES:  # rewritten once per megabyte, not per line
            self._compact()

    def forget_recent(self) -> None:
        """A new worker begins."""
        self._recent = self._line = b""

    def recent(self) -> str:
        """The end of what the present worker printed."""
        return self._recent.decode("utf-8", "replace")

    def close(self, clean: Callable[[str], str] | None = None) -> None:
        """Shorten to the final size; ``clean`` is applied to the text that stays."""
        if self._file.closed:
            return
        if self._size > HEAD_BYTES + TAIL_BYTES:
            self._compact()
        if clean is not None and self._size:
            self._file.seek(0)
            text = clean(self._file.read().decode("utf-8", "replace"))
            self._file.seek(0)
            self._file.truncate()
            self._file.write(text.encode("utf-8", "replace"))
        self._file.close()

    def _compact(self) -> None:
        self._file.seek(self._size - TAIL_BYTES)
        tail = self._file.read(TAIL_BYTES)
        self._left_out += self._size - TAIL_BYTES - HEAD_BYTES
        self._file.seek(HEAD_BYTES)
        self._file.truncate()
        self._file.write(f"\n[... about {self._left_out} bytes left out here ...]\n".encode())
        self._file.write(tail)
        self._size = self._file.tell()

    def _offer(self, data: bytes) -> None:
        if self._on_line is None:
            return
        *lines, self._line = (self._line + data).split(b"\n")
        if len(self._line) > _CHUNK_BYTES:  # printing without an end of line must not fill the memory either
            lines, self._line = [*lines, self._line], b""
        try:
            for line in lines:
                self._on_line(line.decode("utf-8", "replace").rstrip("\r"))
        except Exception:  # a closed terminal must not stop the copying: the worker would block on a full pipe
            self._on_line = None


class Copier:
    """A thread that copies a pipe into a log until the pipe ends or ``finish`` is called and it is empty."""

    def __init__(self, descriptor: int, log: CappedLog) -> None:
        self._descriptor = descriptor
        self._log = log
        self._finish = threading.Event()
        self._thread = threading.Thread(target=self._copy, name="worker-log", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        self._finish.set()
        self._thread.join()

    def _copy(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._descriptor, selectors.EVENT_READ)
            while True:
                last = self._finish.is_set()
                if selector.select(0 if last else 0.1):
                    data = os.read(self._descriptor, _CHUNK_BYTES)
                    if not data:
                        return
                    self._keep(data)
                elif last:
                    return

    def _keep(self, data: bytes) -> None:
        try:
            self._log.write(data)
        except OSError:  # a full disk costs the log, not the run
            return
