"""A result in a program or notebook of the user's: text in a console, a table in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from probes.results import Diagnosis, Finding, Result, Severity, StageResult, Verdict

_COLOURS = {Verdict.HEALTHY: "#1a7f37", Verdict.FAULTY: "#cf222e"}


@dataclass(frozen=True)
class Report:
    """``verdict``, the ranked ``diagnosis.causes``, and every result. Truth value: whether nothing is faulty.
    ``course``: of a watched training, how its loss went."""

    verdict: Verdict
    diagnosis: Diagnosis
    results: Sequence[Result]
    stages: Sequence[StageResult]
    course: str = ""

    @property
    def findings(self) -> list[Finding]:
        """Errors first, then warnings, then notes."""
        order = list(Severity)
        return sorted((f for r in self.results for f in r.findings), key=lambda f: order.index(f.severity))

    def __bool__(self) -> bool:
        return self.verdict is not Verdict.FAULTY

    def __repr__(self) -> str:
        lines = [f"{self.verdict.value.capitalize()}. {self.diagnosis.summary}"]
        lines += [f"  {self.course}"] if self.course else []
        for finding in self.findings:
            at = f" ({finding.where[0].file}:{finding.where[0].line})" if finding.where else ""
            lines.append(f"  {finding.severity}: {finding.name}: {finding.message}{at}")
        lines += [f"  fix: {cause.fix.text}" for cause in self.diagnosis.causes[:1]]
        lines += [f"  not judged: {s.reason}" for s in self.stages if self.verdict is Verdict.INCONCLUSIVE]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        colour = _COLOURS.get(self.verdict, "#9a6700")
        parts = [
            f'<p><b style="color:{colour}">{escape(self.verdict.value.capitalize())}.</b> '
            f"{escape(self.diagnosis.summary)}</p>"
        ]
        if self.course:
            parts.append(f"<p>{escape(self.course.capitalize())}.</p>")
        if self.findings:
            rows = "".join(_row(finding) for finding in self.findings)
            head = "".join(f"<th>{title}</th>" for title in ("severity", "name", "what was seen", "where"))
            parts.append(f"<table><tr>{head}</tr>{rows}</table>")
        for cause in self.diagnosis.causes[:1]:
            parts.append(f"<p><b>Fix.</b> {escape(cause.fix.text)}</p>")
            if cause.fix.after:
                parts.append(f"<pre>- {escape(cause.fix.before)}\n+ {escape(cause.fix.after)}</pre>")
        return "".join(parts)


def _row(finding: Finding) -> str:
    where = "<br>".join(f"<code>{escape(f'{w.file}:{w.line} {w.text}')}</code>" for w in finding.where[:3])
    cells = (escape(str(finding.severity)), escape(finding.name), escape(finding.message), where)
    return "<tr>" + "".join(f'<td style="text-align:left">{cell}</td>' for cell in cells) + "</tr>"
