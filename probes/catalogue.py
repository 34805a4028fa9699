"""Finds a defect's module by its name or code, importing nothing else.

The file name is the defect's name with underscores, so a name needs no index. A code (``MOD204``) is looked up as text
in the one folder that its prefix names.

Probes of other packages come in by the entry point group ``diagnose.probes``: the entry's name is the defect's name,
its object a module (or anything else) with ``DOC`` and ``run``. They cannot take the place of a built-in one.
"""

from __future__ import annotations

import importlib
import re
from functools import cache
from pathlib import Path
from typing import Any

from probes.api import ProbeDoc

GROUP = "diagnose.probes"
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


def builtin_names() -> list[str]:
    """In the order of the groups, and alphabetical within one."""
    return list(_index())


def names() -> list[str]:
    """The built-in names, then those of other packages whose probes could be loaded."""
    return [*_index(), *(name for name, found in _external().items() if not isinstance(found, str))]


def broken() -> dict[str, str]:
    """Name -> what is wrong with it, for probes of other packages that cannot be used."""
    return {name: found for name, found in _external().items() if isinstance(found, str)}


@cache  # a worker loads all once, and must not import from `probes` after the user's code
def module(name: str) -> Any:
    """The module of a defect. Raises KeyError for an unknown name."""
    if name in _index():
        return importlib.import_module(_index()[name])
    found = _external()[name]
    if isinstance(found, str):
        raise KeyError(name)
    return found


@cache
def _external() -> dict[str, Any]:
    """Name -> what another package offers under it, or a sentence that says why it cannot be used."""
    from importlib.metadata import entry_points

    found: dict[str, Any] = {}
    for entry in entry_points(group=GROUP):
        origin = f"the probe {entry.name} of {entry.dist.name if entry.dist else entry.value}"
        try:
            found[entry.name] = _checked(entry.load(), entry.name)
        except (Exception, SystemExit) as error:
            found[entry.name] = f"{origin} cannot be used: {type(error).__name__}: {error}"
    return found


def _checked(offered: Any, name: str) -> Any:
    doc = getattr(offered, "DOC", None)
    if not isinstance(doc, ProbeDoc) or not callable(getattr(offered, "run", None)):
        raise TypeError("expected DOC (a probes.api.ProbeDoc) and run(ctx)")
    if doc.name != name:
        raise ValueError(f"its DOC is named {doc.name!r}, its entry point {name!r}")
    if name in _index() or doc.code[:3] in FOLDERS:
        raise ValueError(f"{name} ({doc.code}) is taken by a built-in probe, or its prefix is")
    return offered


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
        return next((name for name in names() if doc(name).code == wanted.upper()), None) if not folder else None
    name = wanted.lower().replace("_", "-")
    return name if name in _index() or name in names() else None


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
