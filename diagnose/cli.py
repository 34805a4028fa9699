"""The command line. Nothing heavy is imported before a command needs it, so that help and explain answer at once."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn, Optional

import typer

from diagnose.errors import ExitCode, UsageError
from diagnose.options import COMMON, OPTIONS, with_options

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Rehearse a PyTorch training before the long run: find what is wrong, prove why, and write it up.",
)

STAGES = {
    "data": ("Is what the loaders yield what you think?", ("only",)),
    "smoke": ("Do forward, loss, backward and step work?", ("only",)),
    "mnist": ("Can the model, loss and optimizer learn handwritten digits?", ("only", "reference")),
    "overfit": ("Can the pipeline memorise a batch or two?", ("only",)),
    "subset": ("Does it learn on a tenth of the data?", ("only", "fraction")),
    "train": ("The full training: watched, logged, resumable.", ("only", "epochs", "resume", "init_from", "stop_on")),
    "evaluate": ("What does the trained model get wrong?", ("checkpoint", "split")),
}
_RUN = ("from_stage", "until_stage", "keep_going", "plan", "fraction", "reference", "epochs", "resume", "stop_on")


def _runs(name: str) -> Any:
    def run(flags: dict[str, Any]) -> None:
        from diagnose.execute import run_command

        raise typer.Exit(run_command(name, flags, argv=sys.argv[1:]))

    return run


for _name, (_help, _extra) in STAGES.items():
    app.command(_name, help=_help, rich_help_panel="Stages")(with_options(_runs(_name), (*COMMON, *_extra)))
app.command("run", help="Every stage in order, each a gate for the next; then the report.", rich_help_panel="Runs")(
    with_options(_runs("run"), (*COMMON, *_RUN))
)
app.command("gate", help="For CI: data, smoke and overfit; exit code, annotations, JUnit.", rich_help_panel="Runs")(
    with_options(_runs("gate"), (*COMMON, "plan", "allow_inconclusive"))
)


@app.command(
    "watch",
    short_help="Run a script as python would, and look for faults of its loop.",
    rich_help_panel="Runs",
    context_settings={"allow_interspersed_args": False},
)
def watch(
    words: Annotated[
        Optional[list[str]],  # noqa: UP045  (Typer reads this form on every Python we support)
        typer.Argument(metavar="SCRIPT.py|NOTEBOOK.ipynb [ARGS...]", help="What follows the script is the script's."),
    ] = None,
    module: Annotated[bool, typer.Option("-m", help="Run a module, as python -m does.")] = False,
    steps: Annotated[Optional[int], typer.Option(help="Stop after so many optimizer steps.")] = None,  # noqa: UP045
    epochs: Annotated[Optional[int], typer.Option(help="Stop after so many passes.")] = None,  # noqa: UP045
    minutes: Annotated[Optional[float], typer.Option(help="Stop after so many minutes.")] = None,  # noqa: UP045
    select: Annotated[Optional[list[str]], typer.Option(help="Only these names, codes or prefixes.")] = None,  # noqa: UP045
    ignore: Annotated[Optional[list[str]], typer.Option(help="Not these names, codes or prefixes.")] = None,  # noqa: UP045
    fail_on: Annotated[Optional[str], typer.Option(help="error or warning.")] = None,  # noqa: UP045
    baseline: Annotated[Optional[str], typer.Option(help="File of known findings: only new ones fail.")] = None,  # noqa: UP045
    out: Annotated[Optional[str], typer.Option(help="Folder of the run, instead of .diagnose/runs/.")] = None,  # noqa: UP045
    json: Annotated[bool, typer.Option("--json", help="Print results.json on stdout, the script's on stderr.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing where nothing is wrong.")] = False,
) -> None:
    """Run a training script as python would, and look for faults of its loop."""
    from diagnose.watch.command import watch as run_watched

    flags = {
        "module": module, "steps": steps, "epochs": epochs, "minutes": minutes, "select": select, "ignore": ignore,
        "fail_on": fail_on, "baseline": baseline, "out": out, "json": json, "quiet": quiet,
    }  # fmt: skip
    raise typer.Exit(run_watched(words or [], flags, argv=sys.argv[1:]))


def _ablate(flags: dict[str, Any]) -> None:
    from diagnose.commands import ablate

    raise typer.Exit(ablate(flags, argv=sys.argv[1:]))


app.command(
    "ablate", help="Turn one knob and compare: does it decide whether the model learns?", rich_help_panel="Runs"
)(with_options(_ablate, ("knob", "values", *COMMON, "plan", "fraction", "resume")))


def _bisect(flags: dict[str, Any]) -> None:
    from diagnose.commands import bisect

    raise typer.Exit(bisect(flags, argv=sys.argv[1:]))


def _lr(flags: dict[str, Any]) -> None:
    from diagnose.commands import range_test

    raise typer.Exit(range_test(flags, argv=sys.argv[1:]))


app.command(
    "bisect", help="Swap settings and parts against known-good ones until the cause is found.", rich_help_panel="Runs"
)(with_options(_bisect, (*COMMON, "plan", "fraction", "resume")))
app.command("lr", help="Learning-rate range test, with a picture and a suggestion.", rich_help_panel="Runs")(
    with_options(_lr, (*COMMON, "plan", "fraction"))
)


@app.command(rich_help_panel="Runs", no_args_is_help=False)
def demo(
    name: Annotated[str, typer.Argument(help="stuck, repaired or healthy.")] = "stuck",
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    out: Annotated[str, typer.Option(help="Folder of the run, instead of .diagnose/runs/.")] = "",
    json: Annotated[bool, typer.Option("--json", help="Print results.json and nothing else on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress; no word where nothing is wrong.")] = False,
) -> None:
    """Watch the tool at work on a pipeline that is stuck at chance (or on a healthy one)."""
    from diagnose.commands import demo as run_demo

    flags = {"seed": seed, "out": out, "json": json, "quiet": quiet}
    raise typer.Exit(run_demo(name, flags, argv=sys.argv[1:]))


@app.command(rich_help_panel="Results")
def report(
    run: Annotated[str, typer.Argument(help="Path, id, unique prefix, or latest.")] = "latest",
    format: Annotated[str, typer.Option(help="md, json, junit or github.")] = "md",
) -> None:
    """Print the report of a run, from its folder alone."""
    from diagnose.commands import report as print_report

    print_report(run, format)


@app.command(rich_help_panel="Results")
def compare(
    first: Annotated[str, typer.Argument(help="A run: path, id, unique prefix, or latest.")],
    second: Annotated[str, typer.Argument(help="Another run.")] = "latest",
) -> None:
    """Compare two runs: verdicts, causes, settings, figures."""
    from diagnose.commands import compare as print_comparison

    print_comparison(first, second)


@app.command(rich_help_panel="Help")
def explain(
    name: Annotated[str, typer.Argument(help="A name such as dropout-too-strong, or a code such as REG701.")],
) -> None:
    """What a finding means, why it matters and how to mend it."""
    from diagnose.explain import explain as print_explanation

    print_explanation(name)


@app.command(rich_help_panel="Help")
def probes() -> None:
    """List everything that is looked for."""
    from diagnose.explain import listing

    listing()


@app.command(rich_help_panel="Help")
def doctor() -> None:
    """Versions, device, memory and threads of this machine."""
    from diagnose.commands import doctor as print_doctor

    print_doctor()


def _init(flags: dict[str, Any]) -> None:
    from diagnose.commands import init

    raise typer.Exit(init(flags, argv=sys.argv[1:]))


app.command("init", help="Write a commented target file that runs (diagnose_target.py).", rich_help_panel="Help")(
    with_options(_init, ("assertions", *COMMON))
)


def _version(value: bool) -> None:
    if value:
        from diagnose import __version__

        print(f"torch-diagnose {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def _leave_out_options(words: Sequence[str]) -> None:
    """Of commands that are not called only name and help are needed; Typer would build all their options first."""
    for command in app.registered_commands:
        if command.name is not None and command.name not in words:
            command.callback = _not_called


def _not_called() -> None: ...


# Newer versions of Typer carry a copy of click, whose exceptions are not those of the package `click`.
_ClickError: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


def _told_by_click(error: Exception) -> list[str]:
    """What click has to say in one line; nothing where it has printed the help already (`diagnose` alone)."""
    message = " ".join(error.format_message().split())  # type: ignore[attr-defined]
    context = getattr(error, "ctx", None)
    command = context.info_name if context is not None and context.parent is not None else None
    if not message or message.startswith("Usage:"):
        return []
    stop = "" if message.endswith((".", "?")) else "."
    if command and (others := _commands_with(getattr(error, "option_name", ""))):
        option = error.option_name  # type: ignore[attr-defined]
        named = ", ".join(others[:-1]) + " and " + others[-1] if others[1:] else others[0]
        return [f"{command}: {option} is an option of diagnose {named} only. Leave it out here."]
    return [
        f"{command}: {message}{stop} See diagnose {command} --help."
        if command
        else f"{message}{stop} See diagnose --help."
    ]


def _commands_with(option: str) -> list[str]:
    """The commands that take ``option``, such as "--epochs"."""
    name = option.removeprefix("--").replace("-", "_")
    name = {"from": "from_stage", "until": "until_stage"}.get(name, name)
    if not option.startswith("--") or name not in OPTIONS:
        return []
    found = [command for command, (_, extra) in STAGES.items() if name in (*COMMON, *extra)]
    found += [command for command in ("ablate", "bisect") if name in (*COMMON, "plan", "fraction", "resume")]
    return [*found, *(["run"] if name in (*COMMON, *_RUN) else [])]


def _end_with_usage(problems: Sequence[str]) -> NoReturn:
    if "RANK" in os.environ:
        from diagnose.torchrun import let_rank_0_speak

        let_rank_0_speak()
    for problem in dict.fromkeys(problems):
        print(f"diagnose: {problem}", file=sys.stderr)
    sys.exit(ExitCode.USAGE)


def main() -> None:
    """Entry point: exit codes as in the contract, and no traceback for a usage error."""
    from diagnose.worker.isolation import own_packages_first

    own_packages_first()
    _leave_out_options(sys.argv[1:])
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
        sys.exit(code if isinstance(code, int) else ExitCode.HEALTHY)
    except UsageError as error:
        _end_with_usage(error.problems)
    except _ClickError as error:
        _end_with_usage(_told_by_click(error))
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted", file=sys.stderr)
        sys.exit(ExitCode.INTERRUPTED)
    except BrokenPipeError:  # the reader has gone, as in `diagnose report | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except Exception:
        import traceback

        traceback.print_exc()
        print("diagnose: this is an error of torch-diagnose itself, not of your code.", file=sys.stderr)
        sys.exit(ExitCode.INTERNAL)
