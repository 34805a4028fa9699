"""``python -m diagnose.docs`` prints docs/probes.md: everything that is looked for, from the catalogue itself."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from probes import catalogue
from probes.api import ProbeDoc, Stage
from probes.results import Severity
from reports.markup import cell, inline

GROUPS = {
    "DAT": "Data",
    "MOD": "Model",
    "LOS": "Loss",
    "GRD": "Gradients",
    "OPT": "Optimizer and schedule",
    "REG": "Regularisation",
    "FIT": "Learning",
    "TRN": "The full training",
    "LOP": "The training loop",
    "ENV": "Your code and the machine",
}
HEAD = """\
# What is looked for

This page is printed by `python -m diagnose.docs` from the modules in `probes/`; do not edit it by hand.
`diagnose explain NAME` prints the same texts.

- **Severity.** An *error* makes a run faulty. A *warning* is worth a look and counts with `--fail-on warning`. A *note*
  is only told.
- **Kind.** A *cause* says why. A *symptom* says what is seen; it is named as the cause only where nothing better was
  found.
- **Experiment.** These run only after a stage failed to learn.
- **Leaving one out.** `--ignore NAME` (or a code, or the beginning of either); in `pyproject.toml`:
  `[tool.diagnose] ignore = ["class-imbalance"]`.
"""


def probes_page() -> str:
    docs = sorted((catalogue.doc(name) for name in catalogue.builtin_names()), key=lambda doc: doc.code)
    parts = [HEAD]
    for prefix, title in GROUPS.items():
        own = [doc for doc in docs if doc.code.startswith(prefix)]
        if own:
            parts += [f"## {title}\n", _table(own), *("\n".join(_section(doc)) for doc in own)]
    return "\n".join(parts).rstrip("\n") + "\n"


def _table(docs: list[ProbeDoc]) -> str:
    rows = [f"| {d.code} | [{d.name}](#{d.name}) | {_when(d)} | {d.severity} | {cell(d.summary)} |" for d in docs]
    return "\n".join(
        ["| code | name | looked for in | severity | what it means |", "| --- | --- | --- | --- | --- |", *rows, ""]
    )


def _when(doc: ProbeDoc) -> str:
    if doc.judged_by:
        return "every stage" if doc.code.startswith("ENV") else str(doc.stage)
    order = list(Stage)
    stages = sorted({doc.stage, *doc.also}, key=order.index)
    return f"{', '.join(stages)}{' (experiment)' if doc.experiment else ''}"


def _section(doc: ProbeDoc) -> Iterator[str]:
    kind = "symptom" if doc.symptom else "cause"
    severity = "" if doc.severity is Severity.ERROR else f", {doc.severity}"
    yield f"### {doc.name}\n"
    yield f"{doc.code}, {kind}{severity}. {inline(doc.summary)}\n"
    yield f"*Why it matters.* {inline(doc.why)}\n"
    yield f"*What to do.* {inline(doc.fix)}\n"
    if doc.before or doc.after:
        lines = [f"- {line}" for line in doc.before.splitlines()] + [f"+ {line}" for line in doc.after.splitlines()]
        yield "\n".join(["```diff", *lines, "```", ""])
    for title, items in (("If that is not enough", doc.ladder), ("To take away", doc.takeaways)):
        if items:
            yield "\n".join([f"*{title}.*\n", *(f"- {inline(item)}" for item in items), ""])
    if doc.consequences:
        yield f"*It brings about.* {', '.join(doc.consequences)}.\n"
    if doc.references:
        yield f"*See.* {inline('; '.join(doc.references))}.\n"


if __name__ == "__main__":
    sys.stdout.write(probes_page())
