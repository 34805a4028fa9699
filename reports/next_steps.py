"""What to do now, as sentences with commands."""

from __future__ import annotations

from probes.results import RunResults, Status, Verdict
from reports.numbers import one_line
from reports.shapes import Step
from reports.words import STAGE_QUESTIONS

REHEARSAL = {"data", "smoke", "overfit", "subset"}
"""The stages after which nothing speaks against the full training."""


def next_steps(results: RunResults) -> tuple[Step, ...]:
    return tuple(Step(one_line(step.text), one_line(step.command)) for step in _next(results))


def _next(results: RunResults) -> list[Step]:
    if results.diagnosis.causes:
        return _after_fix(results)
    if results.verdict is Verdict.FAULTY:
        failed = next((r.name for r in results.results if r.status in (Status.FAIL, Status.CRASHED)), None)
        read = [Step("Read about the first failed check.", f"diagnose explain {failed}")] if failed else []
        return [*read, Step("Correct what failed, then run again.", results.reproduce or _command(results, "run"))]
    if results.verdict is Verdict.HEALTHY:
        ran = {stage.name for stage in results.stages if stage.status is Status.PASS}
        if ran and not ran & {"train", "evaluate"} and not ran >= REHEARSAL:
            return [Step("These stages passed; the others come next.", _command(results, "run"))]
        if ran and "train" not in ran:
            return [Step("Nothing speaks against the full training. Start it.", _command(results, "train"))]
        if ran and "evaluate" not in ran:
            return [Step("Look at what the trained model gets wrong.", _command(results, "evaluate"))]
        return []
    open_states = (Status.SKIPPED, Status.INCONCLUSIVE)
    stage = next((s.name for s in results.stages if s.status in open_states and s.name in STAGE_QUESTIONS), None)
    if stage:
        return [Step(f"Remove what stopped the stage {stage}, then run it.", _command(results, stage))]
    return [Step("Run it again, to its end.", results.reproduce)] if results.reproduce else []


def _after_fix(results: RunResults) -> list[Step]:
    name = results.diagnosis.causes[0].name
    failed = [s.name for s in results.stages if s.status in (Status.FAIL, Status.CRASHED) and s.name in STAGE_QUESTIONS]
    waiting = [s.name for s in results.stages if s.status is Status.SKIPPED and s.name in STAGE_QUESTIONS]
    again = "Make the change above, then run again"
    if failed:
        again += f": the stage {failed[0]} should pass now"
        again += f", and the run goes on with {' and '.join(waiting)}" if waiting else ""
    return [
        Step(f"{again}.", results.reproduce or _command(results, "run")),
        Step("Put the new run beside this one.", f"diagnose compare {results.run_id} latest"),
        Step(f"Read more about {name}.", f"diagnose explain {name}"),
    ]


def _command(results: RunResults, command: str) -> str:
    """The command that made this run, with another first word; its flags are kept."""
    start = f"diagnose {results.command} "
    if results.command and results.reproduce.startswith(start):
        return f"diagnose {command} {results.reproduce.removeprefix(start)}"
    return f"diagnose {command} {results.target}".strip()
