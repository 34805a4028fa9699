"""The command line's options as a table, so that commands that share them cannot drift apart."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Optional

import typer

PIPELINE, RUN, OUTPUT = "Pipeline", "Run", "Output"

Text = Optional[str]  # noqa: UP045  (Typer reads this form on every Python we support)
Texts = Optional[list[str]]  # noqa: UP045
Whole = Optional[int]  # noqa: UP045
Real = Optional[float]  # noqa: UP045

OPTIONS: dict[str, tuple[Any, Any]] = {
    "data": (Text, typer.Option(help="module:function, or digits, mnist, cifar10, glyphs-200[:SIZE], imagefolder:DIR, ...", rich_help_panel=PIPELINE)),
    "input": (Text, typer.Option(help="Shape of made-up inputs where there is no data, such as 3x64x64.", rich_help_panel=PIPELINE)),
    "loss": (Text, typer.Option(help="module:function that returns the loss.", rich_help_panel=PIPELINE)),
    "optimizer": (Text, typer.Option(help="module:function(model, ...) that returns the optimizer.", rich_help_panel=PIPELINE)),
    "scheduler": (Text, typer.Option(help="step, multi-step, exponential, cosine, plateau, one-cycle, or module:function(optimizer, ...).", rich_help_panel=PIPELINE)),
    "set": (Texts, typer.Option("--set", help="An argument of your functions: model.name=deeper, data.batch_size=64.", rich_help_panel=PIPELINE)),
    "task": (Text, typer.Option(help="classification, multilabel (or binary: one score per sample), regression, segmentation, language-model, custom.", rich_help_panel=PIPELINE)),
    "device": (Text, typer.Option(help="auto, cpu, cuda or cuda:N.", rich_help_panel=RUN)),
    "seed": (Whole, typer.Option(help="Seed of everything random (0).", rich_help_panel=RUN)),
    "budget": (Text, typer.Option(help="Time for the whole command: 90, 90s, 2m, 1h.", rich_help_panel=RUN)),
    "hang_after": (Text, typer.Option("--hang-after", help="Silence after which your code counts as hung: 90s, 10m (3m).", rich_help_panel=RUN)),
    "select": (Texts, typer.Option(help="Only these names, codes or prefixes.", rich_help_panel=RUN)),
    "ignore": (Texts, typer.Option(help="Not these names, codes or prefixes.", rich_help_panel=RUN)),
    "fail_on": (Text, typer.Option("--fail-on", help="error or warning.", rich_help_panel=RUN)),
    "baseline": (Text, typer.Option(help="File of known findings: only new ones fail.", rich_help_panel=RUN)),
    "write_baseline": (Text, typer.Option("--write-baseline", help="Write what this run finds to a baseline file.", rich_help_panel=OUTPUT)),
    "in_process": (bool, typer.Option("--in-process", help="No isolation, so that breakpoints work.", rich_help_panel=RUN)),
    "download": (bool, typer.Option("--download", help="Allow data sets to be downloaded.", rich_help_panel=RUN)),
    "full_scan": (bool, typer.Option("--full-scan", help="Read every sample of every split.", rich_help_panel=RUN)),
    "only": (bool, typer.Option("--only", help="Do not run first what this stage depends on.", rich_help_panel=RUN)),
    "out": (Text, typer.Option(help="Folder of the run, instead of .diagnose/runs/.", rich_help_panel=OUTPUT)),
    "json": (bool, typer.Option("--json", help="Print results.json and nothing else on stdout.", rich_help_panel=OUTPUT)),
    "quiet": (bool, typer.Option("--quiet", help="No progress; no word where nothing is wrong.", rich_help_panel=OUTPUT)),
    "verbose": (bool, typer.Option("--verbose", help="Every check, and what your code prints.", rich_help_panel=OUTPUT)),
    "reference": (Text, typer.Option(help="mnist, cifar10 or digits.", rich_help_panel=RUN)),
    "fraction": (Real, typer.Option(help="Share of the training data (0.1).", rich_help_panel=RUN)),
    "epochs": (Whole, typer.Option(help="Epochs of the full training, instead of the pipeline's own.", rich_help_panel=RUN)),
    "resume": (bool, typer.Option("--resume", help="Go on in the latest unfinished run, or in --out.", rich_help_panel=RUN)),
    "init_from": (Text, typer.Option("--init-from", help="Start from the weights of this checkpoint.", rich_help_panel=RUN)),
    "stop_on": (Texts, typer.Option("--stop-on", help="End the training when this is found: stuck-at-chance,diverging,...", rich_help_panel=RUN)),
    "checkpoint": (Text, typer.Option(help="Checkpoint to evaluate.", rich_help_panel=RUN)),
    "split": (Text, typer.Option(help="train, val or test.", rich_help_panel=RUN)),
    "from_stage": (Text, typer.Option("--from", help="First stage.", rich_help_panel=RUN)),
    "until_stage": (Text, typer.Option("--until", help="Last stage.", rich_help_panel=RUN)),
    "keep_going": (bool, typer.Option("--keep-going", help="Go on after a stage that failed.", rich_help_panel=RUN)),
    "plan": (bool, typer.Option("--plan", help="Print what would run, and what it would cost; run nothing.", rich_help_panel=RUN)),
    "allow_inconclusive": (bool, typer.Option("--allow-inconclusive", help="Exit 0 when nothing is faulty but not everything could be checked.", rich_help_panel=RUN)),
    "knob": (Text, typer.Option(help="dropout, weight-decay, lr, scheduler, batch-size, augmentation, label-smoothing, clipping, optimizer, initialisation, ...", rich_help_panel=RUN)),
    "values": (Text, typer.Option(help="Values to compare, such as 0.1,0.3.", rich_help_panel=RUN)),
    "assertions": (bool, typer.Option("--assertions", help="Print assert lines for what smoke sees, instead.", rich_help_panel=RUN)),
}  # fmt: skip

COMMON = (
    "data", "input", "loss", "optimizer", "scheduler", "set", "task", "device", "seed", "budget", "hang_after", "select", "ignore",
    "fail_on", "baseline", "write_baseline", "in_process", "download", "full_scan", "out", "json", "quiet", "verbose",
)  # fmt: skip

TARGET_HELP = "module:attribute or path/to/file.py:attribute; may stand in pyproject.toml instead."


def with_options(function: Callable[[dict[str, Any]], None], names: Sequence[str], *, target: bool = True) -> Any:
    """A function for Typer that takes the options ``names`` (and TARGET), and hands all of them on as one dict."""

    def command(**flags: Any) -> None:
        function(flags)

    parameters = []
    if target:
        kind = Annotated[Text, typer.Argument(help=TARGET_HELP, metavar="[TARGET]", show_default=False)]
        parameters.append(_parameter("target", kind, None))
    for name in names:
        annotation, option = OPTIONS[name]
        parameters.append(_parameter(name, Annotated[annotation, option], False if annotation is bool else None))
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
