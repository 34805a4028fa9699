"""Small training programs, healthy and faulty, on which the tool's answers are measured.

``cases`` says what a case is; ``programs``, ``faulty`` and ``healthy`` hold them, ``unseen`` those that were written
without a look at the probes; ``harm`` measures that a fault hurts.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import replace
from types import ModuleType

from zoo.cases import Case


def all_cases(*, families: bool = False) -> dict[str, Case]:
    """Every case by its id: faulty ones, the healthy program of each, healthy look-alikes; with ``families``, the
    models of torchvision and timm as well."""
    from zoo import faulty, healthy, programs, unseen

    found = [case for group in (faulty, unseen) for module in _modules(group) for case in getattr(module, "CASES", ())]
    for module in _modules(programs):
        found.append(Case(module.__name__.rsplit(".", 1)[-1], "", module.build))
    for module in _modules(healthy):
        if module.__name__.endswith(".families"):  # too slow to train: only looked at
            found += [replace(case, trains=False) for case in (*module.TORCHVISION, *module.TIMM) if families]
        else:
            found += getattr(module, "CASES", ())
    cases = {case.id: case for case in found}
    assert len(cases) == len(found), "two cases have one id"
    return cases


def _modules(package: ModuleType) -> list[ModuleType]:
    names = (info.name for info in pkgutil.iter_modules(package.__path__))
    return [importlib.import_module(f"{package.__name__}.{name}") for name in names]
