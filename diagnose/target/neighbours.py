"""Functions in files beside the target, which nobody asked for: they are told, never imported.

A file beside the target may be a script that starts a training as soon as it is imported.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

MOST_FILES = 100
MOST_BYTES = 1_000_000


def hint(scope: str, names: Sequence[str], folder: Path, known: Sequence[Path]) -> str:
    """A sentence on the first of ``names`` that a file of ``folder`` defines; empty where none does.

    ``known``: files that were looked into already.
    """
    if not folder.is_dir():
        return ""
    seen = {path.resolve() for path in known}
    files = [path for path in sorted(folder.glob("*.py")) if path.resolve() not in seen]
    defined = re.compile(rf"^def ({'|'.join(names)})\(", re.MULTILINE)
    for path in files[:MOST_FILES]:
        if found := defined.search(_text(path)):
            return f"{path.name} has {found[1]}: give --{scope} {path.stem}:{found[1]} to use it."
    return ""


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace") if path.stat().st_size <= MOST_BYTES else ""
    except OSError:  # a broken link, a file that may not be read
        return ""
