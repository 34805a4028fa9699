"""What the templates print: frozen, formatted, plain text (escaping is the renderer's work)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pair:
    name: str
    text: str


@dataclass(frozen=True)
class Block:
    """A titled piece of preformatted text."""

    title: str
    body: str


@dataclass(frozen=True)
class TableView:
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""
    note: str = ""


@dataclass(frozen=True)
class PlaceView:
    """A line of the user's code: ``models.py:41`` and its text."""

    place: str
    text: str


@dataclass(frozen=True)
class CheckView:
    """One probe or finding: ``outcome`` is a plain word, ``fact`` what was measured or why not."""

    name: str
    outcome: str
    fact: str
    places: tuple[PlaceView, ...] = ()
    fix: str = ""
    tables: tuple[TableView, ...] = ()
    blocks: tuple[Block, ...] = ()


@dataclass(frozen=True)
class StageView:
    name: str
    question: str
    outcome: str
    fact: str
    time: str
    checks: tuple[CheckView, ...]
    """What was found or came to no verdict."""
    clear: tuple[CheckView, ...]
    """What was looked for and not found, with what was measured."""
    silent: tuple[str, ...]
    """The same, without anything to tell."""


@dataclass(frozen=True)
class CauseView:
    name: str
    code: str
    grade: str
    grade_meaning: str
    summary: str
    places: tuple[PlaceView, ...]
    fix: str
    before: str
    after: str
    example: bool
    tried: str
    after_fix: TableView | None
    proof: tuple[TableView, ...]
    curves: tuple[TableView, ...]
    measured: tuple[TableView, ...]
    blocks: tuple[Block, ...]
    why: str
    takeaways: tuple[str, ...]
    ladder: tuple[str, ...]
    references: tuple[str, ...]
    consequences: tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """Names that share one reason."""

    because: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class RuledOut:
    """``experiments``: by a change that did not help or by the diagnosis; ``rest``: a sentence with the count."""

    experiments: tuple[Group, ...]
    learned: tuple[Group, ...]
    usual: tuple[Group, ...]
    rest: str


@dataclass(frozen=True)
class Unchecked:
    shown: tuple[Group, ...]
    skipped: tuple[Group, ...]


@dataclass(frozen=True)
class Step:
    text: str
    command: str


@dataclass(frozen=True)
class AppendixView:
    reproduce: str
    tables: tuple[TableView, ...]
    warnings: tuple[str, ...]
    failures: tuple[Block, ...]


@dataclass(frozen=True)
class View:
    title: str
    origin: str
    verdict: str
    headline: str
    summary: str
    symptoms: tuple[Pair, ...]
    figures: TableView | None
    stages: tuple[StageView, ...]
    stage_table: TableView | None
    not_run: str
    cause: CauseView | None
    errors: tuple[CheckView, ...]
    other_causes: tuple[CauseView, ...]
    progress: TableView | None
    evaluation: tuple[TableView, ...]
    steps: tuple[Step, ...]
    warnings: tuple[CheckView, ...]
    notes: tuple[CheckView, ...]
    ruled_out: RuledOut | None
    not_checked: Unchecked
    appendix: AppendixView
