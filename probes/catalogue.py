"""Finds a defect's module by its name or code, importing nothing else.

The file name is the defect's name with underscores, so a name needs no index. A code (``MOD204``) is looked up as text
in the one folder that its prefix names.
"""

from __future__ import annotations

import importlib
import re
from functools import cache
from pathlib import Path
from types import ModuleType

from probes.api import ProbeDoc

FOLDERS = {
    "DAT": "data",
    "MOD": "model",
    "LOS": "loss",
    "GRD": "gradient",
    "OPT": "optimizer",
    "REG": "regularisation",
    "FIT": "learning",
    "TRN": "training",
    "LOP": "loop",
    "ENV": "environment",
}
_ROOT = Path(__file__).parent
_CODE = re.compile(r"^[A-Z]{3}\d{3}$")


@cache
def _index() -> dict[str, str]:
    """Every name -> the dotted module that documents it; reads file names only."""
    return {
        path.stem.replace("_", "-"): f"probes.{path.parent.name}.{path.stem}"
        for folder in FOLDERS.values()
        for path in sorted((_ROOT / folder).glob("*.py"))
        if not path.stem.startswith("_")
    }


def names() -> list[str]:
    """All names, in the order of the groups and alphabetical within one."""
    return list(_index())


@cache  # a worker loads all once, and must not import from `probes` after the user's code
def module(name: str) -> ModuleType:
    """The module of a defect. Raises KeyError for an unknown name."""
    return importlib.import_module(_index()[name])


def doc(name: str) -> ProbeDoc:
    """The documentation of a defect by name. Raises KeyError for an unknown name."""
    found = module(name).DOC
    assert isinstance(found, ProbeDoc)
    return found


def resolve(name_or_code: str) -> str | None:
    """The name that is meant by a name (any case, underscores allowed) or a code; None if there is none."""
    wanted = name_or_code.strip()
    if _CODE.match(wanted.upper()):
        folder = FOLDERS.get(wanted.upper()[:3])
        pattern = f'code="{wanted.upper()}"'
        for path in sorted((_ROOT / folder).glob("*.py")) if folder else ():
            if pattern in path.read_text(encoding="utf-8"):
                return path.stem.replace("_", "-")
        return None
    name = wanted.lower().replace("_", "-")
    return name if name in _index() else None


def near(name: str) -> list[str]:
    """Names that look like ``name``, or begin like it, the nearest first."""
    import difflib

    wanted = name.lower().replace("_", "-")
    parts = wanted.count("-") + 1
    heads = {found: "-".join(found.split("-")[:parts]) for found in names()}
    likeness = {
        found: max(difflib.SequenceMatcher(None, wanted, text).ratio() for text in (found, head))
        for found, head in heads.items()
    }
    return sorted((n for n in likeness if likeness[n] >= 0.6), key=lambda found: -likeness[found])[:4]
