"""How soon the command line answers: ``diagnose --help`` and ``explain`` beside an empty Typer app of the same size.

    python benchmarks/startup.py --runs 21

Each round starts one process of every kind, so that a busy machine slows all of them alike. The empty app has as many
commands, but no options and nothing behind them. Goal: a ratio of at most 1.3. Not covered: a cold disk cache.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

GOAL = 1.3
LAUNCHER = "import sys\nfrom {module} import main\nif __name__ == '__main__':\n    sys.exit(main())\n"


def empty_app(commands: int) -> str:
    """A Typer app with ``commands`` commands that do nothing."""
    lines = ["import typer", "app = typer.Typer(add_completion=False, no_args_is_help=True)"]
    for index in range(commands):
        lines.append(f"@app.command()\ndef command_{index}() -> None:\n    '''Does nothing.'''")
    return "\n".join([*lines, "main = app", ""])


def count_commands() -> int:
    from diagnose.cli import app

    return len(app.registered_commands)


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def measure(runs: int) -> dict[str, list[float]]:
    commands = count_commands()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "empty_app.py").write_text(empty_app(commands))
        empty, ours = Path(folder) / "empty", Path(folder) / "ours"
        empty.write_text(LAUNCHER.format(module="empty_app"))
        ours.write_text(LAUNCHER.format(module="diagnose.cli"))  # what pip writes for a console script
        subjects = {
            "empty app --help": [sys.executable, str(empty), "--help"],
            "empty app command": [sys.executable, str(empty), "command-0"],
            "diagnose --help": [sys.executable, str(ours), "--help"],
            "diagnose explain": [sys.executable, str(ours), "explain", "dropout-too-strong"],
        }
        taken: dict[str, list[float]] = {name: [] for name in subjects}
        for command in subjects.values():  # once beforehand: byte code, disk cache
            seconds(command)
        for _ in range(runs):
            for name, command in subjects.items():
                taken[name].append(seconds(command))
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=21)
    taken = measure(parser.parse_args().runs)
    for name, times in taken.items():
        print(f"{name:<18} median {median(times) * 1000:6.1f} ms   fastest {min(times) * 1000:6.1f} ms")
    base = median(taken["empty app --help"])
    for name in ("diagnose --help", "diagnose explain"):
        ratio = median(taken[name]) / base
        print(f"{name:<18} {ratio:.2f} times the empty app's --help (goal: at most {GOAL})")


if __name__ == "__main__":
    main()
