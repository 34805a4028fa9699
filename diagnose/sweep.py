"""``--set model.name=baseline,residual``: one run per value, and one report over all of them.

A comma in a value means several runs, unless the function takes a list there.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

from diagnose.config import Config
from diagnose.display import make_display
from diagnose.errors import UsageError
from diagnose.session import Session
from diagnose.store import STATE_FOLDER, RunFolder, new_id, write_atomically
from probes.api import Stage
from probes.results import RunResults, Verdict

One = Callable[[Config], tuple[RunResults, Path]]
MOST = 32  # runs of one sweep


def variants(config: Config) -> list[tuple[str, Config]]:
    """(what is set, configuration) of each run; a single one without commas. Raises UsageError for too many."""
    several = [text for text in config.set if "," in text and not any(mark in text for mark in "[](){}'\"")]
    if not several:
        return [("", config)]
    for text in several:
        if not _values(text):
            raise UsageError(f"--set {text}: got no value between the commas; give values such as model.name=a,b.")
    lists = _that_are_lists(_with(config, {text: _values(text)[0] for text in several}), several)
    several = [text for text in several if text not in lists]
    chosen = list(product(*(_values(text) for text in several)))
    if len(chosen) > MOST:
        raise UsageError(f"--set: {len(chosen)} combinations, at most {MOST} are run at once. Give fewer values.")
    if config.out and len(chosen) > 1:
        return [
            (", ".join(values), replace(_with(config, dict(zip(several, values, strict=True))),
                                        out=str(Path(config.out) / "-".join(map(_file_name, values)))))
            for values in chosen
        ]  # fmt: skip
    return [(", ".join(values), _with(config, dict(zip(several, values, strict=True)))) for values in chosen]


def run_all(command: str, found: Sequence[tuple[str, Config]], one: One) -> int:
    """Each variant as a run of its own; then the report over all. The exit code is the worst of them."""
    from reports.sweep import render_sweep

    done: list[tuple[str, RunResults, Path]] = []
    codes = []
    for number, (label, config) in enumerate(found, start=1):
        from diagnose.execute import conclude

        results, folder = one(config)
        if not config.json:
            sys.stdout.write(f"\n== {number} of {len(found)}: {label}\n")
            sys.stdout.flush()
        codes.append(conclude(results, folder, config, command))
        if results.verdict is Verdict.INTERRUPTED:
            done.append((label, results, folder))
            break
        done.append((label, results, folder))
    text = render_sweep([(label, results) for label, results, _ in done])
    place = _place(found[0][1])
    write_atomically(place / "sweep.md", text.encode())
    if not found[0][1].json:
        sys.stdout.write(f"\n{text}\nReport over all: {place / 'sweep.md'}\n")
    return max(codes)


def spoken_for(argv: Sequence[str], config: Config) -> list[str]:
    """The words of the command that makes just this run: each swept setting with the value it has here."""
    chosen = {text.partition("=")[0]: text for text in config.set}
    chosen |= {name.removeprefix("model."): text for name, text in chosen.items() if name.startswith("model.")}
    words = []
    for word in argv:
        flag, _, text = word.partition("=") if word.startswith("--set=") else ("", "", word)
        name = text.partition("=")[0]
        swept = "," in text and name in chosen and "," not in chosen[name]
        words.append((f"{flag}=" if flag else "") + chosen[name] if swept else word)
    return words


def _place(config: Config) -> Path:
    place = Path(config.out).parent if config.out else Path(STATE_FOLDER) / "sweeps" / new_id()
    place.mkdir(parents=True, exist_ok=True)
    return place


def _values(text: str) -> list[str]:
    name, _, values = text.partition("=")
    return [f"{name}={value.strip()}" for value in values.split(",") if value.strip()]


def _with(config: Config, chosen: dict[str, str]) -> Config:
    return replace(config, set=tuple(chosen.get(text, text) for text in config.set))


def _file_name(text: str) -> str:
    return "".join(c if c.isalnum() or c in "-." else "_" for c in text)


def _that_are_lists(config: Config, texts: Sequence[str]) -> set[str]:
    """Which of the settings are lists to the functions that take them: asked of the worker, which knows the code."""
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder.create(
            {"config": {}, "target": config.target or "", "command": "sweep"}, project=Path(place)
        )
        with Session(config, folder, make_display(quiet=True, verbose=False)) as session:
            if not session.load(Stage.DATA):
                return set()
            session.ask({"do": "lists", "settings": list(texts), "stage": str(Stage.DATA)})
            return set(session.extra.get("lists", {}).get("settings", ()))
