"""What to do now, as sentences with commands."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping

from probes.results import Grade, RunResults, Status, Verdict
from reports.headline import undecided
from reports.numbers import one_line
from reports.shapes import Step
from reports.words import MEASURED, STAGE_QUESTIONS

ASKED_FOR = {"watch", "lr", "ablate", "evaluate"}
"""Commands whose answer is complete; no stage follows from it."""
EXPERIMENTS = {"ablate", "bisect", "lr"}
RESUMED = {"run", "train", "bisect", "ablate"}
"""Commands that take --resume."""
UNEXPLAINED = {"stuck-at-chance", "predicts-one-class"}
"""Leads of a training that say what is seen, not why."""
REHEARSAL = {"data", "smoke", "overfit", "subset"}
"""The stages after which nothing speaks against the full training."""


def next_steps(results: RunResults) -> tuple[Step, ...]:
    return tuple(Step(one_line(step.text), one_line(step.command)) for step in _next(results))


def _next(results: RunResults) -> list[Step]:
    goes_on = results.verdict is Verdict.INTERRUPTED and results.command in RESUMED and bool(results.reproduce)
    if goes_on and all(cause.grade is Grade.SUSPECTED for cause in results.diagnosis.causes):
        return [Step("Go on where it stopped.", f"{_without(results.reproduce, _STARTED)} --resume")]
    if results.diagnosis.causes and results.command == "train" and results.diagnosis.causes[0].name in UNEXPLAINED:
        return [Step("Find by experiment what keeps it from learning.", _command(results, "bisect"))]
    if results.diagnosis.causes:
        return _after_fix(results)
    if results.verdict is Verdict.FAULTY:
        failed = next((r.name for r in results.results if r.status in (Status.FAIL, Status.CRASHED)), None)
        read = [Step("Read about the first failed check.", f"diagnose explain {failed}")] if failed else []
        return [*read, Step("Correct what failed, then run again.", _again(results))]
    if results.verdict is Verdict.HEALTHY and results.command in ASKED_FOR:
        return _with_suggested_rate(results)
    if results.verdict is Verdict.HEALTHY:
        ran = {stage.name for stage in results.stages if stage.status is Status.PASS}
        if ran and not ran & {"train", "evaluate"} and not ran >= REHEARSAL:
            return [Step("These stages passed; the others come next.", _command(results, "run"))]
        if ran and "train" not in ran:
            return [Step("Nothing speaks against the full training. Start it.", _command(results, "train"))]
        if ran and "evaluate" not in ran:
            return [
                Step("Look at what the trained model gets wrong.", _command(results, "evaluate") + _weights(results))
            ]
        return []
    if results.command in EXPERIMENTS and _out_of_time(results):
        return [_with_more_time(results)]
    return _undecided(results)


def _undecided(results: RunResults) -> list[Step]:
    open_states = (Status.SKIPPED, Status.INCONCLUSIVE)
    stage = next((s.name for s in undecided(results) if s.status in open_states and s.name in STAGE_QUESTIONS), None)
    whole = _command(results, "bisect")
    if stage == "subset" and "--fraction" not in whole and not _out_of_time(results):
        return [Step("Too little was learned to tell why. Ask again with all of the data.", f"{whole} --fraction 1")]
    if stage:
        return [Step(f"Remove what stopped the stage {stage}, then run it.", _command(results, stage))]
    if not results.reproduce:
        return []
    return [Step("Run it again, to its end.", _again(results))]


def _out_of_time(results: RunResults) -> bool:
    cut = any(s.status is Status.INCONCLUSIVE and "time budget" in s.reason for s in results.stages)
    return cut and bool(results.reproduce)


def _with_more_time(results: RunResults) -> Step:
    """The same command with twice the budget; what is finished is not made again where it can be taken up."""
    budget = results.config.get("budget")
    more = f" --budget {math.ceil(2 * budget)}s" if isinstance(budget, (int, float)) else ""
    kept = results.command in RESUMED
    told = "; the trainings that are finished are not made again" if kept else ""
    return Step(
        f"The time budget ended too early: give it more{told}.",
        f"{_without(results.reproduce, _STARTED)}{more}{' --resume' if kept else ''}",
    )


def _with_suggested_rate(results: RunResults) -> list[Step]:
    """After a range test: the command that sets the two rates side by side, which the test itself does not."""
    found = [f.values for r in results.results for f in r.findings if f.name == MEASURED["lr"]]
    rate = found[0].get("suggested") if found else None
    if not isinstance(rate, (int, float)):
        return []
    command = f"{_command(results, 'ablate')} --knob lr --values {rate:.1e}"
    return [Step("Compare the suggested rate with yours before you change it.", command)]


def _after_fix(results: RunResults) -> list[Step]:
    name = results.diagnosis.causes[0].name
    failed = [s.name for s in results.stages if s.status in (Status.FAIL, Status.CRASHED) and s.name in STAGE_QUESTIONS]
    failed = [stage for stage in failed if stage != "mnist"] or failed  # which only advises
    order = [s.name for s in results.stages]
    later = results.stages[order.index(failed[0]) + 1 :] if failed else ()
    waiting = [s.name for s in later if s.status is Status.SKIPPED and s.name in STAGE_QUESTIONS]
    strong = [cause for cause in results.diagnosis.causes if cause.grade is not Grade.SUSPECTED]
    again = "Mend all causes above, then run again" if len(strong) > 1 else "Mend the cause above, then run again"
    if failed:
        again += f": the stage {failed[0]} should pass now"
        again += f", and the run goes on with {', '.join(waiting)}" if waiting else ""
    return [
        Step(f"{again}.", _again(results)),
        Step("Put the new run beside this one.", f"diagnose compare {results.run_id} latest"),
        Step(f"Read more about {name}.", f"diagnose explain {name}"),
    ]


# Flags of one command that another does not take, with the number of words that they are.
_OWN_FLAGS = {
    "--epochs": 2, "--fraction": 2, "--reference": 2, "--checkpoint": 2, "--split": 2, "--from": 2, "--until": 2,
    "--knob": 2, "--values": 2, "--init-from": 2, "--only": 1, "--keep-going": 1, "--stop-on": 2,
    "--allow-inconclusive": 1,
}  # fmt: skip
# A folder that holds a run is not taken for another; a budget that was too small is too small again.
_STARTED = {"--resume": 1, "--plan": 1, "--budget": 2}
_ONCE = {"--out": 2, **_STARTED}


def _again(results: RunResults) -> str:
    """The command that made this run, fit to be given once more."""
    return _without(results.reproduce, _ONCE) or _command(results, "run")


def _command(results: RunResults, command: str) -> str:
    """The command that made this run, with another first word; the flags that both take are kept."""
    start = f"diagnose {results.command} "
    if results.command and results.reproduce.startswith(start):
        return f"diagnose {command} {_without(results.reproduce.removeprefix(start), {**_OWN_FLAGS, **_ONCE})}".rstrip()
    return f"diagnose {command} {results.target}".strip()


def _weights(results: RunResults) -> str:
    """Where the best weights are, if they lie where nobody would look for them."""
    out = results.config.get("out")
    return f" --checkpoint {shlex.quote(f'{out}/checkpoints/best_model.pth')}" if out else ""


def _without(command: str, flags: Mapping[str, int]) -> str:
    try:
        words = shlex.split(command)
    except ValueError:  # cut off or redacted in the middle of a quotation
        return command
    kept: list[str] = []
    skip = 0
    for word in words:
        name, equals, _ = word.partition("=")
        if skip:
            skip -= 1
        elif name in flags:
            skip = 0 if equals else flags[name] - 1
        else:
            kept.append(word)
    return shlex.join(kept)
