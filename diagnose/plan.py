"""Which probes run in which stage, and which stages a command asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from diagnose.config import Config
from diagnose.errors import UsageError
from probes import catalogue
from probes.api import ProbeDoc, Stage
from probes.results import Result, Severity

OUT_OF_TIME = "the time budget had ended before this began"
ALL = tuple(stage for stage in Stage if stage is not Stage.WATCH)
# What a stage command runs first, so that a later stage does not meet a fault that a cheaper one explains.
DEPENDS: dict[Stage, tuple[Stage, ...]] = {
    Stage.DATA: (),
    Stage.SMOKE: (Stage.DATA,),
    Stage.MNIST: (Stage.DATA, Stage.SMOKE),
    Stage.OVERFIT: (Stage.DATA, Stage.SMOKE),
    Stage.SUBSET: (Stage.DATA, Stage.SMOKE, Stage.OVERFIT),
    Stage.TRAIN: (Stage.DATA, Stage.SMOKE),
    Stage.EVALUATE: (),
}
GATE = (Stage.DATA, Stage.SMOKE, Stage.OVERFIT)
QUESTIONS = {
    Stage.DATA: "is what the loaders yield what you think?",
    Stage.SMOKE: "do forward, loss, backward and step work?",
    Stage.MNIST: "can the model, loss and optimizer learn anything at all?",
    Stage.OVERFIT: "can the pipeline memorise a batch or two?",
    Stage.SUBSET: "does it learn on a part of the data?",
    Stage.TRAIN: "the full run",
    Stage.EVALUATE: "what does the trained model get wrong?",
}
# The probe that answers the stage's question: without its answer the stage is inconclusive.
DECISIVE = {
    Stage.MNIST: "fails-on-reference-data",
    Stage.OVERFIT: "cannot-overfit",
    Stage.SUBSET: "stuck-at-chance",
}
FIRST = {Stage.DATA: "empty-loader", Stage.SMOKE: "user-code-error", **DECISIVE}


@dataclass(frozen=True)
class Plan:
    """``stages`` in order; ``requested`` are those the verdict speaks for; ``probes`` by stage, ``experiments`` after a
    failure to learn."""

    stages: Sequence[Stage]
    requested: Sequence[Stage]
    probes: dict[Stage, Sequence[str]]
    experiments: Sequence[str]


def make_plan(command: str, config: Config) -> Plan:
    """Raises UsageError for names and stages that do not exist."""
    stages, requested = _stages(command, config)
    docs = {name: catalogue.doc(name) for name in catalogue.names() if hasattr(catalogue.module(name), "run")}
    chosen = _selected(docs, config)
    taken: set[str] = set()
    probes: dict[Stage, Sequence[str]] = {}
    for stage in stages:
        names = [n for n, d in chosen.items() if not d.experiment and stage in {d.stage, *d.also} and n not in taken]
        names.sort(key=lambda name: (name != FIRST.get(stage), _depth(name)))
        probes[stage] = names
        taken.update(names)
    return Plan(stages, requested, probes, [name for name in EXPERIMENT_ORDER if name in chosen])


def _depth(name: str) -> int:
    """How many probes must have run before this one, in a chain."""
    return max((1 + _depth(needed) for needed in catalogue.doc(name).requires), default=0)


def barred(name: str, results: Sequence[Result]) -> str:
    """Why a probe is meaningless after what was found; empty if it is not."""
    found = {f.name for r in results for f in r.findings if f.severity is not Severity.NOTE}
    return next((f"{needed} was found" for needed in catalogue.doc(name).requires if needed in found), "")


# The likeliest and cheapest first.
EXPERIMENT_ORDER = (
    "dropout-too-strong", "weight-decay-too-strong", "gradient-clip-too-small", "label-smoothing-too-strong",
    "augmentation-too-strong", "features-on-wild-scales", "inputs-not-normalised", "unscaled-regression-target",
    "learning-rate-too-high", "learning-rate-too-low", "learns-with-another-part", "labels-unrelated-to-inputs",
)  # fmt: skip


def _stages(command: str, config: Config) -> tuple[Sequence[Stage], Sequence[Stage]]:
    if command == "gate":
        return GATE, GATE
    if command in {"run", "demo"}:
        first = _stage(config.from_stage, "--from") if config.from_stage else ALL[0]
        last = _stage(config.until_stage, "--until") if config.until_stage else ALL[-1]
        chosen = ALL[ALL.index(first) : ALL.index(last) + 1]
        if not chosen:
            raise UsageError(f"--from {first} lies behind --until {last}: the order is {', '.join(ALL)}.")
        return chosen, chosen
    stage = Stage(command)
    return ((stage,) if config.only else (*DEPENDS[stage], stage)), (stage,)


def _stage(name: str, flag: str) -> Stage:
    if name not in ALL:
        raise UsageError(f"{flag} {name}: expected one of {', '.join(ALL)}.")
    return Stage(name)


def _selected(docs: dict[str, ProbeDoc], config: Config) -> dict[str, ProbeDoc]:
    """``--select`` and ``--ignore`` take names, codes and prefixes of either."""
    problems = [
        f"{flag} {wanted}: no probe has that name, code or prefix." + _near(wanted)
        for flag, patterns in (("--select", config.select), ("--ignore", config.ignore))
        for wanted in patterns
        if not any(matches(catalogue.doc(name), wanted) for name in catalogue.names())
    ]
    if problems:
        raise UsageError(*problems)
    return {
        name: doc
        for name, doc in docs.items()
        if (not config.select or any(matches(doc, wanted) for wanted in config.select))
        and not any(matches(doc, wanted) for wanted in config.ignore)
    }


def matches(doc: ProbeDoc, pattern: str) -> bool:
    return doc.name.startswith(pattern.lower().replace("_", "-")) or doc.code.startswith(pattern.upper())


def _near(wanted: str) -> str:
    near = catalogue.near(wanted)
    return f" Did you mean {', '.join(near)}?" if near else ""
