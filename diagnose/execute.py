"""One command that runs the user's pipeline, from configuration to exit code."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import diagnose
from diagnose import planned, torchrun
from diagnose.baseline import new_findings, read_baseline, write_baseline
from diagnose.config import Config, load_config
from diagnose.display import make_display
from diagnose.earlier import best_checkpoint, open_folder
from diagnose.errors import ExitCode, UsageError
from diagnose.plan import Plan, make_plan
from diagnose.session import Session
from diagnose.sweep import run_all, spoken_for, variants
from diagnose.worker.isolation import OWN_PACKAGES
from diagnose.worker.process import interrupt_on_termination
from probes.api import Stage
from probes.results import RunResults, Severity, Verdict

_OURS = Path(__file__).resolve().parent.parent
ADVISORY = (Stage.MNIST,)  # by itself it decides nothing, unless it is what was asked for


def run_command(command: str, flags: Mapping[str, Any], *, argv: Sequence[str]) -> int:
    """Runs the stages of ``command``; prints the result; returns the exit code."""
    torchrun.refuse_ranks(command)
    config = load_config(flags, Path.cwd())
    if torchrun.WORLD > 1:
        config = torchrun.adapted(config, command)
    plan = torchrun.part_of(make_plan(command, config))
    if torchrun.RANK > 0 and (config.plan or not plan.stages):
        return int(ExitCode.HEALTHY)
    if config.plan:
        estimate = planned.estimate_only(
            config, plan.stages[0], header("plan", config, ()), {"experiments": "search"} if plan.experiments else {}
        )
        print("\n".join(planned.of_run(plan, estimate)))
        return int(ExitCode.HEALTHY)
    if command == "evaluate" and config.checkpoint is None:
        config = _with_best_checkpoint(config)
    if config.in_process:
        _refuse_shadowed_names(config)

    said_by_first = False

    def one(config: Config) -> tuple[RunResults, Path]:
        def work(session: Session) -> None:
            nonlocal said_by_first
            _stages(session, plan, config, needs_data=command in set(Stage) - {Stage.SMOKE})
            said_by_first = torchrun.said_by_first(session)

        return in_session(command, config, spoken_for(argv, config), work, plan=plan)

    found = variants(config)
    torchrun.refuse_sweep(len(found))
    if torchrun.RANK > 0:
        results, _ = one(found[0][1])
        return torchrun.beside(results, said_by_first=said_by_first)
    if len(found) > 1:
        return run_all(command, found, one)
    results, folder = one(found[0][1])
    return conclude(results, folder, config, command)


def _with_best_checkpoint(config: Config) -> Config:
    path = best_checkpoint(config, Path.cwd())
    if path is None:
        said = f"No run of {config.target} here has kept weights: the model is evaluated as built, untrained."
    else:
        said = f"Evaluating {_relative(path)}, the newest of this target; another with --checkpoint."
    if not config.quiet:
        print(said, file=sys.stderr)
    return config if path is None else replace(config, checkpoint=str(path))


def _refuse_shadowed_names(config: Config) -> None:
    """In one process, ``probes`` can only be either ours or the user's."""
    folders = {Path.cwd(), Path(str(config.target).rpartition(":")[0]).absolute().parent} - {_OURS}
    for place in sorted(folder / name for folder in folders for name in OWN_PACKAGES):
        if place.is_dir() or place.with_suffix(".py").is_file():
            raise UsageError(
                f"--in-process: the project has its own module {place.name!r}, and this process has loaded the tool's "
                "package of that name. Leave --in-process out: in processes of their own both work."
            )


def _stages(session: Session, plan: Plan, config: Config, *, needs_data: bool) -> None:
    loaded = session.load(plan.stages[0])
    if loaded and needs_data and not session.has_data:
        raise UsageError(
            f"{plan.requested[0]} needs data, and none were given: define get_loaders() beside the model factory, or "
            "give --data module:function, or a built-in name such as --data digits."
        )
    if loaded and not config.quiet and len(plan.requested) > 1:
        for line in planned.of_run(plan, session.estimate()):
            print(line, file=sys.stderr)
    session.run(plan)


def in_session(
    command: str, config: Config, argv: Sequence[str], work: Callable[[Session], None], *, plan: Plan | None = None
) -> tuple[RunResults, Path]:
    """Opens a run folder and a worker for ``work``; whatever ends it, the results are written, no process is left."""
    torchrun.refuse_ranks(command)
    interrupt_on_termination()
    if config.baseline:
        read_baseline(Path(config.baseline))  # before anything runs: a usage error should cost nothing
    known = header(command, config, argv)
    folder = torchrun.own_folder(known) if torchrun.RANK > 0 else open_folder(known, config)
    display = make_display(quiet=config.quiet, verbose=config.verbose)
    requested = [str(stage) for stage in plan.requested] if plan else []
    advisory = [str(stage) for stage in ADVISORY] if len(requested) > 1 else []
    interrupted, unusable = False, None
    with Session(config, folder, display) as session:
        try:
            work(session)
        except KeyboardInterrupt:
            interrupted = True
        except UsageError as error:
            unusable = error
        finally:
            display.close()
        if unusable is None or session.stages:
            results = session.finish(requested, interrupted=interrupted or unusable is not None, advisory=advisory)
    if unusable is not None:
        if not session.stages:
            folder.discard()
        raise unusable
    return results, folder.path


def conclude(results: RunResults, folder: Path, config: Config, command: str) -> int:
    """Writes the report and the figures, prints what was asked for, and gives the exit code."""
    report = write_report(results, folder, junit=command == "gate")
    if config.json:
        print((folder / "results.json").read_text(encoding="utf-8"), end="")
    elif not (config.quiet and results.verdict is Verdict.HEALTHY):
        from diagnose.console import console
        from reports.terminal import render_terminal

        render_terminal(results, console(highlight=False, soft_wrap=not sys.stdout.isatty()), _relative(report))
    if command == "gate" and os.environ.get("GITHUB_ACTIONS") and not config.json:
        from reports.ci import render_github

        print(render_github(results))
    if config.write_baseline:
        count = write_baseline(results, Path(config.write_baseline))
        print(f"{count} findings written to {config.write_baseline}", file=sys.stderr)
    code = exit_code(results, config, command)
    if config.baseline and results.verdict is not Verdict.INTERRUPTED:
        code = _against_baseline(results, config, code)
    if results.verdict is Verdict.INCONCLUSIVE and code == ExitCode.HEALTHY:
        print(f"inconclusive: {_why(results)}", file=sys.stderr)
    return int(code)


def _against_baseline(results: RunResults, config: Config, code: ExitCode) -> ExitCode:
    """The exit code where only findings that the baseline does not hold count; the verdict stays what it is."""
    assert config.baseline is not None
    fresh = new_findings(results, read_baseline(Path(config.baseline)))
    counting = [f for f in fresh if f.severity is Severity.ERROR or config.fail_on == "warning"]
    told = ", ".join(sorted({f.name for f in fresh})) or "none"
    print(f"findings that {config.baseline} does not hold: {told}", file=sys.stderr)
    if code == ExitCode.FAULTY and results.verdict is Verdict.FAULTY and not counting:
        return ExitCode.HEALTHY
    return code


def write_report(results: RunResults, folder: Path, *, junit: bool = False) -> Path:
    from diagnose.store import write_atomically
    from reports.figures import write_figures
    from reports.markdown import render_markdown

    write_figures(results, folder)
    path = folder / "report.md"
    write_atomically(path, render_markdown(results, folder).encode())
    if junit:
        from reports.ci import render_junit

        write_atomically(folder / "junit.xml", render_junit(results).encode())
    return path


def exit_code(results: RunResults, config: Config, command: str) -> ExitCode:
    """SPEC 4."""
    if results.verdict is Verdict.INTERRUPTED:
        return ExitCode.INTERRUPTED
    severities = {f.severity for r in results.results for f in r.findings}
    if results.verdict is Verdict.FAULTY or (config.fail_on == "warning" and Severity.WARNING in severities):
        return ExitCode.FAULTY
    if any(r.status == "internal" for r in results.results):
        return ExitCode.INTERNAL
    if results.verdict is Verdict.INCONCLUSIVE and command == "gate" and not config.allow_inconclusive:
        return ExitCode.FAULTY
    return ExitCode.HEALTHY


def header(command: str, config: Config, argv: Sequence[str]) -> dict[str, Any]:
    return {
        "tool_version": diagnose.__version__,
        "command": command,
        "reproduce": shlex.join(["diagnose", *argv]),
        "target": config.target or "",
        "config": replace(config, origins={}).to_dict(),
    }


def _why(results: RunResults) -> str:
    for stage in results.stages:
        if stage.status != "pass":
            return f"stage {stage.name} was {stage.status}: {stage.reason}"
    return "not everything could be checked"


def _relative(path: Path) -> Path:
    try:
        return path.relative_to(Path.cwd())
    except ValueError:
        return path
