"""What a case of the zoo is: a program, or a program plus one change.

A program is a module of ``zoo.programs`` with ``build(**changes) -> Pipeline``: healthy as it stands, and written as a
user would write it; what a case may change is a keyword argument. The faulty cases of a program are in the module of
the same name in ``zoo.faulty`` (a tuple ``CASES``), the healthy look-alikes in ``zoo.healthy``. Those of the group
``dynamics_`` are changed in their source instead (``edited``), and were not looked at before the tool's first answers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

from diagnose.pipeline import Pipeline

UNSEEN = frozenset({"reviews", "sentiment", "unet", "houses", "gpt", "tags", "pairs", "waves", "transfer", "vae",
                    "ownstep", "stream", "pictures", "project"})  # fmt: skip
UNSEEN_TOO = ("dynamics_", "later_", "plain_")  # names of further programs begin so
HELD_OUT = frozenset({"text", "language_model", "segmentation", "vit", "sequence", "autoencoder", "glyphs"})


@dataclass(frozen=True)
class Case:
    """``fault``: the catalogue's name of the one change, "" for a healthy case. ``also``: names that would be as right.

    ``structural``: wrong whatever a short training shows (say, a leak between the splits), so that no harm is measured;
    every other fault does measurable harm (see ``zoo.harm``). ``variant`` tells cases of one program and fault apart.
    ``trains`` is off for models that are only looked at (the families of torchvision): a training would take too long.
    """

    program: str
    fault: str
    build: Callable[[], Pipeline]
    structural: bool = False
    variant: str = ""
    also: tuple[str, ...] = ()
    trains: bool = True

    @property
    def held_out(self) -> bool:
        """Written by somebody else, and not looked at while thresholds were chosen."""
        return self.program in HELD_OUT

    @property
    def unseen(self) -> bool:
        """Written, faults and look-alikes included, before any probe was read (see docs/accuracy.md)."""
        return self.program in UNSEEN or self.program.startswith(UNSEEN_TOO)

    @property
    def id(self) -> str:
        """``program/fault`` or ``program/fault/variant``; a healthy case has "healthy" for its fault."""
        return "/".join(part for part in (self.program, self.fault or "healthy", self.variant) if part)


def faulty(
    build: Callable[..., Pipeline],
    fault: str,
    *,
    structural: bool = False,
    variant: str = "",
    also: tuple[str, ...] = (),
    **changes: Any,
) -> Case:
    """The program of ``build`` plus ``changes``, its keyword arguments (one, as a rule)."""
    program = build.__module__.rsplit(".", 1)[-1]
    return Case(program, fault, partial(build, **changes), structural, variant, also)


def edited(
    program: ModuleType,
    fault: str,
    *edits: tuple[str, str],
    structural: bool = False,
    variant: str = "",
    also: tuple[str, ...] = (),
) -> Case:
    """The program with its source changed: (what stands there, what takes its place) for each edit."""
    name = program.__name__.rsplit(".", 1)[-1]
    return Case(name, fault, partial(_build_edited, program, edits), structural, variant, also)


def _build_edited(program: ModuleType, edits: tuple[tuple[str, str], ...]) -> Pipeline:
    pipeline: Pipeline = _changed(program, edits).build()
    return pipeline


_written: list[Path] = []


@cache
def _changed(program: ModuleType, edits: tuple[tuple[str, str], ...]) -> ModuleType:
    path = str(program.__file__)
    source = Path(path).read_text(encoding="utf-8")
    for old, new in edits:
        assert old in source, f"{program.__name__} holds no {old!r}"
        source = source.replace(old, new)
    name = f"{program.__name__.rsplit('.', 1)[-1]}_{len(_written)}"
    file = Path(_folder().name) / f"{name}.py"
    file.write_text(source, encoding="utf-8")  # a file of its own: frames and line numbers are those of the change
    module = ModuleType(name)
    module.__file__ = str(file)
    _written.append(file)
    sys.modules[name] = module  # what is defined in it can be looked up
    exec(compile(source, str(file), "exec"), vars(module))
    return module


@cache
def _folder() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="zoo-")  # removed when the process ends


def healthy(build: Callable[..., Pipeline], variant: str, **changes: Any) -> Case:
    """A healthy look-alike: ``build`` with ``changes``."""
    return Case(build.__module__.rsplit(".", 1)[-1], "", partial(build, **changes), variant=variant)


def cases(
    base: Callable[[], Pipeline],
    faults: Mapping[Callable[[], Pipeline], str | tuple[str, ...]],
    look_alikes: Collection[Callable[[], Pipeline]] = (),
    *,
    structural: Collection[Callable[[], Pipeline]] = (),
) -> tuple[Case, ...]:
    """Those of a program in one module: builders of faults with the names that are right, and healthy ones."""
    program = base.__module__.rsplit(".", 1)[-1]
    found = [Case(program, "", base), *(Case(program, "", build, variant=build.__name__) for build in look_alikes)]
    for build, names in faults.items():
        fault, *also = (names,) if isinstance(names, str) else names
        found.append(Case(program, fault, build, build in structural, build.__name__, tuple(also)))
    return tuple(found)
