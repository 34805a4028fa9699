"""What a case is: a script of ``programs`` and one change of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PROGRAMS = Path(__file__).parent / "programs"


@dataclass(frozen=True)
class Case:
    """``changes``: texts of the program and what stands in their place; each must occur exactly once.

    ``accepted``: other names for the same defect that are a right answer too.
    """

    program: str
    name: str
    changes: tuple[tuple[str, str], ...]
    accepted: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return f"{self.program}-{self.name}"

    @property
    def answers(self) -> tuple[str, ...]:
        return (self.name, *self.accepted)

    def source(self) -> str:
        text = healthy(self.program)
        for old, new in self.changes:
            if text.count(old) != 1:
                raise ValueError(f"{self.id}: {old!r} occurs {text.count(old)} times")
            text = text.replace(old, new)
        return text


def healthy(program: str) -> str:
    return (PROGRAMS / f"{program}.py").read_text(encoding="utf-8")


def programs() -> list[str]:
    return sorted(path.stem for path in PROGRAMS.glob("*.py"))


def make(program: str, name: str, *changes: str, accepted: tuple[str, ...] = ()) -> Case:
    return Case(program, name, tuple(zip(changes[::2], changes[1::2], strict=True)), accepted)
