"""A cause made ready for reading: where, proof, fix, and the catalogue's texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from probes.api import fits
from probes.results import Cause, Evidence, Number, RunResults, Table, Text, Trace, Verdict, Where
from reports.curves import after_fix_table, arm_tables, is_measured
from reports.numbers import clean, figure, one_line
from reports.shapes import Block, CauseView, PlaceView, TableView
from reports.words import GRADES, doc


def accused(results: RunResults) -> RunResults:
    """Without causes where the verdict accuses nobody: what is merely suspected there is told as a warning."""
    if results.verdict not in {Verdict.HEALTHY, Verdict.INCONCLUSIVE}:
        return results
    return replace(results, diagnosis=replace(results.diagnosis, causes=()))


def cause_view(cause: Cause) -> CauseView:
    known = doc(cause.name)
    own_fix = bool(cause.fix.before or cause.fix.after)
    before, after = cause.fix.before, cause.fix.after
    if not own_fix and known:
        before, after = known.before, known.after
    return CauseView(
        name=one_line(cause.name),
        code=one_line(cause.code),
        grade=cause.grade.value,
        grade_meaning=GRADES[cause.grade],
        summary=one_line(cause.summary or (known.summary if known else "")),
        places=places(cause.where),
        fix=one_line(cause.fix.text or (known.fix if known else "")),
        before=clean(before),
        after=clean(after),
        example=not own_fix,
        tried=_tried(cause),
        after_fix=after_fix_table(cause),
        proof=tuple(table_view(e) for e in cause.evidence if isinstance(e, Table) and _is_proof(e)),
        curves=arm_tables(cause.evidence),
        measured=measured_tables(cause.evidence),
        blocks=tuple(block for e in cause.evidence if (block := block_of(e))),
        why=one_line(known.why) if known else "",
        takeaways=tuple(text for text in known.takeaways if fits(text, cause.values)) if known else (),
        ladder=tuple(text for text in known.ladder if fits(text, cause.values)) if known else (),
        references=tuple(known.references) if known else (),
        consequences=tuple(one_line(name) for name in cause.consequences),
    )


def _tried(cause: Cause) -> str:
    """What the experiment says about the fix; empty where the cause was not found by one."""
    change, learned = cause.values.get("change"), cause.values.get("learned")
    if not change or not learned:
        return ""
    return f"Tried in this run: with {one_line(change)}, {one_line(learned)} repeats learned."


def place(where: Where) -> str:
    return f"{one_line(where.file)}:{where.line}" if where.line > 0 else one_line(where.file)


def places(lines: Sequence[Where]) -> tuple[PlaceView, ...]:
    return tuple(dict.fromkeys(PlaceView(place(where), one_line(where.text)) for where in lines))


def table_view(table: Table) -> TableView:
    rows = tuple(
        tuple(figure(table.columns[i] if i < len(table.columns) else "", item) for i, item in enumerate(row))
        for row in table.rows
    )
    return TableView(tuple(one_line(name) for name in table.columns), rows, one_line(table.title))


def _is_proof(item: Table) -> bool:
    return bool(item.rows) and not is_measured(item)


def measured_tables(evidence: Sequence[Evidence]) -> tuple[TableView, ...]:
    """What was measured to explain the cause: single numbers, and tables whose title begins with "measured"."""
    numbers = [e for e in evidence if isinstance(e, Number)]
    rows = tuple((one_line(n.name), figure(n.name, n.value), one_line(n.expected)) for n in numbers)
    tables = [TableView(("figure", "measured", "expected"), rows)] if rows else []
    return tuple(tables + [table_view(e) for e in evidence if isinstance(e, Table) and is_measured(e) and e.rows])


def block_of(item: Evidence) -> Block | None:
    """A text or an exception as preformatted lines."""
    if isinstance(item, Text):
        return Block(one_line(item.title), clean(item.body))
    if isinstance(item, Trace):
        frames = [f"  {place(w)}" + (f"    {one_line(w.text)}" if w.text else "") for w in item.frames]
        header = ["Your frames, the innermost last:"] if frames else []
        body = "\n".join([*header, *frames, f"{item.type}: {item.message}"])
        return Block(one_line(item.type), clean(body))
    return None
