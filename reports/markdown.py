"""The report as GitHub markdown: the answer first, and complete without its pictures."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from probes.results import RunResults
from reports.curves import EXPERIMENTS
from reports.markup import Md, render
from reports.view import build_view

FIGURES = "figures"
_SAFE_NAME = re.compile(r"[\w.-]+\.png", re.ASCII)


@dataclass(frozen=True)
class Pictures:
    """Paths relative to the run folder; empty where there is no such file."""

    curves: Md
    proof: Md
    confusion_matrix: Md
    others: tuple[str, ...]


def _pictures(folder: Path | None) -> Pictures:
    found = sorted((folder / FIGURES).glob("*.png")) if folder else []
    names = [path.name for path in found if _SAFE_NAME.fullmatch(path.name)]
    known = ("curves", "proof", "confusion_matrix")
    curves, proof, matrix = (Md(f"{FIGURES}/{n}.png" if f"{n}.png" in names else "") for n in known)
    others = tuple(f"{FIGURES}/{name}" for name in names if name.removesuffix(".png") not in known)
    return Pictures(curves, proof, matrix, others)


def render_markdown(results: RunResults, folder: Path | None) -> str:
    """The report of a run. A picture is shown only if its file is in ``folder``, from where its path is relative."""
    text = render("report.md.j2", view=build_view(results), pictures=_pictures(folder), experiments=EXPERIMENTS)
    return collapse_blank_lines(text)


def collapse_blank_lines(text: str) -> str:
    """At most one blank line in a row, except inside code blocks."""
    kept: list[str] = []
    fence = ""
    for line in text.splitlines():
        if fence:
            fence = "" if line == fence else fence
        elif line.startswith("```"):
            fence = line[: len(line) - len(line.lstrip("`"))]
        elif not line.strip() and kept and not kept[-1]:
            continue
        kept.append(line.rstrip() if not fence else line)
    return "\n".join(kept).rstrip("\n") + "\n"
