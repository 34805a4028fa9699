"""Text made safe for GitHub markdown: nothing that a user wrote can become markup.

Templates print plain strings through ``finalize``, which escapes; only what these functions return passes as markup.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.numbers import clean, one_line

if TYPE_CHECKING:
    from jinja2 import Environment

    from reports.shapes import PlaceView, TableView

TEMPLATES = Path(__file__).parent / "templates"

_INLINE = re.compile(r"[\\`*\[\]|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_LINK = re.compile(r"(?i)\b(https?|ftp|mailto|xmpp)(:)|\b(www)(\.)")
_LEADING = re.compile(r"^(\d+)([.)])(?=\s|$)|^([+-])(?=\s|$)|^(#)(?=#{0,5}(?:\s|$))|^(=)(?==*$)|^(-)(?=-*$)")
_PLACED = re.compile(r"^(.*\S)  # (\S+:\d+)$")
"""A line of a fix that says where it stands."""


class Md(str):
    """Text that already is markdown."""

    __slots__ = ()


def inline(text: object) -> Md:
    """One line of prose in which nothing is markup, wherever in a line it stands."""
    escaped = _LEADING.sub(lambda m: rf"{m[1]}\{m[2]}" if m[1] else rf"\{m[0]}", cell(text))
    return Md(escaped)


def html(text: object) -> Md:
    """Text inside an HTML element that stands on a line of its own, where markdown is not read."""
    return Md(escape(one_line(text)))


def cell(text: object) -> Md:
    """The content of a table cell (never at the start of a line)."""
    escaped = _INLINE.sub(lambda m: "\\" + m[0], one_line(text))
    escaped = re.sub(r"&(?=[#A-Za-z])", "&amp;", escaped).replace("<", "&lt;").replace(">", "&gt;")
    return Md(_LINK.sub(lambda m: rf"{m[1]}\{m[2]}" if m[1] else rf"{m[3]}\{m[4]}", escaped))


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall(r"`+", text)), default=0)


def code(text: object) -> Md:
    """A code span; not for tables, where a bar would end the cell."""
    line = one_line(text)
    if not line:
        return Md("")
    ticks = "`" * (_longest_run(line) + 1)
    pad = " " if line[0] == "`" or line[-1] == "`" else ""
    return Md(f"{ticks}{pad}{line}{pad}{ticks}")


def fence(text: object, language: str = "text") -> Md:
    """A code block whose fence is longer than any run of backticks in it."""
    body = clean(text).strip("\n")
    ticks = "`" * max(3, _longest_run(body) + 1)
    return Md(f"{ticks}{language}\n{body}\n{ticks}")


def diff(before: str, after: str) -> Md:
    """Before and after as one ``diff`` block."""
    return fence("\n".join(diff_lines(before, after)), "diff")


def diff_lines(before: str, after: str) -> list[str]:
    """Lines that go with ``-``, lines that come with ``+``, lines in common with neither."""
    old, new = clean(before).strip("\n").splitlines(), clean(after).strip("\n").splitlines()
    if hunks := _hunks(old, new):
        return hunks
    lines: list[str] = []
    for kind, i, j, k, m in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            lines += [f"  {line}" for line in old[i:j]]
        else:
            lines += [f"- {line}" for line in old[i:j]] + [f"+ {line}" for line in new[k:m]]
    return [line.rstrip() for line in lines]


def _hunks(old: Sequence[str], new: Sequence[str]) -> list[str]:
    """Where every line says its place: the place once, then the line as it is and as it should be."""
    pairs = [(_PLACED.match(was), _PLACED.match(then)) for was, then in zip(old, new, strict=False)]
    lines: list[str] = []
    for was, then in pairs:
        if was is None or then is None or was[2] != then[2] or len(old) != len(new):
            return []
        lines += [f"@@ {was[2]} @@", f"- {was[1]}", f"+ {then[1]}"]
    return lines


def names_places(before: str, after: str) -> bool:
    """Whether the diff itself says where each line stands."""
    return any(line.startswith("@@ ") for line in diff_lines(before, after)[:1])


def at(lines: Sequence[PlaceView]) -> Md:
    """Where, in brackets after a sentence; nothing where there is no place."""
    spans = ", ".join(code(line.place) for line in lines)
    return Md(f" ({spans})" if spans else "")


def table(view: TableView) -> Md:
    """A table; columns of figures are set flush right."""
    width = len(view.columns)
    flush = [all(_figure_like(row[i]) for row in view.rows if i < len(row)) and i > 0 for i in range(width)]
    lines = [_row(view.columns, width), "|" + "|".join(" ---: " if right else " --- " for right in flush) + "|"]
    return Md("\n".join(lines + [_row(row, width) for row in view.rows]))


def _row(cells: Sequence[str], width: int) -> str:
    padded = [*cells, *[""] * width][:width]
    return "| " + " | ".join(cell(text) or " " for text in padded) + " |"


def _figure_like(text: str) -> bool:
    return not text or text[0].isdigit() or text[0] in "-–+" or text.startswith("below ")


def environment(**filters: Callable[..., Any]) -> Environment:
    """The template environment: every printed value is escaped unless it is ``Md``."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(TEMPLATES, encoding="utf-8"),
        finalize=lambda value: value if isinstance(value, Md) else inline(value),
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters.update({"code": code, "fence": fence, "table": table, "at": at, "html": html, **filters})
    made.globals["diff"] = diff
    return made


def render(template: str, **context: Any) -> str:
    return environment().get_template(template).render(**context).rstrip("\n") + "\n"
