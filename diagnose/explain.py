"""``diagnose explain`` and ``diagnose probes``: the texts of the catalogue, printed."""

from __future__ import annotations

from diagnose.errors import UsageError
from probes import catalogue
from probes.api import ProbeDoc


def explain(name: str) -> None:
    """Raises UsageError, with near misses, for a name that the catalogue does not have."""
    found = catalogue.resolve(name)
    if found is None:
        near = catalogue.near(name)
        hint = f" Did you mean {', '.join(near)}?" if near else " diagnose probes lists all of them."
        raise UsageError(f"explain: there is no finding named {name!r}.{hint}")
    print(explanation(catalogue.doc(found)))


def explanation(doc: ProbeDoc) -> str:
    """Plain text, wrapped."""
    import textwrap

    kind = "symptom" if doc.symptom else "cause"
    parts = [
        f"{doc.name}  ({doc.code}, {kind}, {doc.severity}, looked for in: {doc.stage})",
        "",
        *_wrapped(doc.summary),
    ]
    parts += ["", "Why it matters", *_wrapped(doc.why), "", "What to do", *_wrapped(doc.fix)]
    if doc.before or doc.after:
        parts += ["", "Before", textwrap.indent(doc.before, "    "), "After", textwrap.indent(doc.after, "    ")]
    for title, lines in (
        ("If that is not enough, in this order", doc.ladder), ("To take away", doc.takeaways), ("See", doc.references),
    ):  # fmt: skip
        if lines:
            parts += ["", title, *(line for text in lines for line in _wrapped(text, "- "))]
    if doc.consequences:
        parts += ["", *_wrapped(f"It brings about: {', '.join(doc.consequences)}.")]
    return "\n".join(parts)


def _wrapped(text: str, bullet: str = "") -> list[str]:
    import textwrap

    return textwrap.wrap(
        text, 96, initial_indent="  " + bullet, subsequent_indent="  " + " " * len(bullet), break_on_hyphens=False
    )


def listing() -> None:
    for name in catalogue.names():
        doc = catalogue.doc(name)
        print(f"{doc.code}  {doc.name:<38} {doc.stage:<9} {doc.severity:<8} {doc.summary}")
    for name, reason in catalogue.broken().items():
        print(f"------  {name:<38} not loaded: {reason}")
