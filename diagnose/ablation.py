"""``diagnose ablate``: one knob over its arms and seeds, on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diagnose.config import Config
from diagnose.errors import UsageError
from diagnose.execute import conclude, in_session
from diagnose.plan import make_plan
from diagnose.session import Session
from probes.api import Stage

# The probe that speaks for a knob where the control fails: its finding is the verdict of the ablation.
SPEAKS = {
    "dropout": ("dropout-too-strong",),
    "weight-decay": ("weight-decay-too-strong",),
    "lr": ("learning-rate-too-high", "learning-rate-too-low"),
    "scheduler": (),
    "clipping": ("gradient-clip-too-small",),
    "regulariser": ("regulariser-dominates",),
    "label-smoothing": ("label-smoothing-too-strong",),
    "augmentation": ("label-destroying-augmentation", "augmentation-too-strong"),
    "inputs": ("features-on-wild-scales", "inputs-not-normalised"),
    "targets": ("unscaled-regression-target",),
}


def run_ablation(config: Config, argv: Sequence[str]) -> int:
    if config.knob not in SPEAKS:
        from diagnose.near_miss import did_you_mean

        got = f"got {config.knob!r}" if config.knob else "none was given"
        raise UsageError(f"--knob: {got}, expected {', '.join(SPEAKS)}.{did_you_mean(str(config.knob), SPEAKS)}")
    told: dict[str, Any] = {}

    def work(session: Session) -> None:
        if not session.load(Stage.SUBSET):
            return
        session.compare(str(config.knob), config.values, SPEAKS[str(config.knob)])
        told.update(session.extra.get("comparison", {}))

    results, folder = in_session("ablate", config, argv, work, plan=make_plan("subset", config))
    if told and not config.json:
        _print_table(told["comparison"])
    return conclude(results, folder, config, "ablate")


def _print_table(comparison: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("change", "seed", "steps", "loss", "val accuracy", "outcome", box=None, pad_edge=False)
    for arm in (comparison["control"], *comparison["arms"]):
        for trace in arm["traces"]:
            first, last = trace["points"][0], trace["points"][-1]
            score = last["val_score"] if last["val_score"] is not None else last["train_score"]
            table.add_row(
                arm["label"], str(trace["seed"]), str(trace["steps"]),
                f"{_figure(first['train_loss'])} to {_figure(last['train_loss'])}",
                "" if score is None else f"{score:.1%}", trace["outcome"],
            )  # fmt: skip
    Console(highlight=False).print(table)


def _figure(value: float | None) -> str:
    return "nan" if value is None else f"{value:.3f}"
