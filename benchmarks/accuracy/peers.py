"""The same cases, judged by the tools that people use today.

    python benchmarks/accuracy/peers.py [--programs a,b] [--seeds 0] [--tools a,b] [--minutes 20] [--out FILE]
    python benchmarks/accuracy/peers.py --table FILE

Healthy cases come first, then the faulty ones in a fixed random order: where the time runs out, what is done is a
random part of them. Each finished case and tool is a line of FILE; started again, it goes on with what is missing.

A tool finds a fault where it says anything at its fail level, and names it where what it said is in ``NAMES`` for that
fault. An error of the user's own code (a plain loop meets one too, see ``control``) counts as found; an error that only
the tool meets counts as a crash, even where the tool reports it as a failed check. Each tool gets all that it takes.
Where a warm-up starts at a rate of zero, the tools that look at one step see the rate after it (see ``warmed_up``).
"""

from __future__ import annotations

import argparse
import inspect
import json
import math
import random
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

LIMIT = 60  # seconds for one tool and case
WATCHED = 30  # steps of training for the tools that watch a loop
OVERFITTED = 100  # steps for Lightning on one batch
RENEWED = 150  # cases and tools per process
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

NONFINITE = "nonfinite-inputs nonfinite-activations nonfinite-loss nonfinite-gradient unstable-log exploding-gradient"
UNCHANGED = (
    "parameters-not-updated gradients-cleared-before-step zero-learning-rate graph-cut unused-parameters dead-relu "
    "zero-gradient vanishing-gradient bf16-update-lost everything-frozen adam-epsilon-out-of-range loss-detached"
)
RAISED = (  # what the text of an error of PyTorch or of the user's code tells
    "forward-shape-mismatch input-dtype-mismatch channels-last-input label-dtype-mismatch labels-out-of-range "
    "num-classes-mismatch output-shape-mismatch unreadable-sample empty-loader loss-not-scalar loss-detached graph-cut "
    "everything-frozen batchnorm-on-single-sample target-outside-loss-domain wrong-loss-axis"
)
LOGITS = "softmax-before-cross-entropy activation-on-logits nll-on-probabilities bce-on-probabilities"
# tool -> pattern of "check: message" -> the catalogue's names that this says, read with good will
NAMES: dict[str, dict[str, str]] = {
    "torchtest2": {
        "^(exception|forward|loss)|raised": RAISED,
        "^output_shape": "output-shape-mismatch num-classes-mismatch",
        "^(output_finite|loss: the loss is|overfit_batch: .*NaN)": NONFINITE + " learning-rate-too-high",
        "^output_range": LOGITS + " unstable-log",
        "^output_varies": "constant-inputs repeated-samples ignored-input dead-relu saturated-activations "
        "vanishing-initialisation target-broadcast symmetric-initialisation",
        "^eval_determinism": "nondeterministic-eval layer-created-in-forward",
        "^initial_loss.*larger": "exploding-initialisation inputs-not-normalised features-on-wild-scales",
        "^initial_loss.*low": "target-leaked-into-input",
        "^optimizer_coverage": "parameters-missing-from-optimizer stale-optimizer-parameters",
        "^gradient_flow": "graph-cut unused-parameters dead-relu zero-gradient loss-detached ignored-input "
        "symmetric-initialisation",
        "^gradient_magnitude.*explod": "exploding-gradient exploding-initialisation learning-rate-too-high "
        "inputs-not-normalised features-on-wild-scales",
        "^gradient_magnitude.*NaN": NONFINITE,
        "^params_change": UNCHANGED + " parameters-missing-from-optimizer stale-optimizer-parameters",
        "^input_dependency": "ignored-input",
        "^batch_independence": "batch-mixing softmax-over-batch",
        "^overfit_batch.*lr too high": "learning-rate-too-high unstable-log",
        "^overfit_batch.*learning rate": "learning-rate-too-low learning-rate-too-high zero-learning-rate "
        "adam-epsilon-out-of-range",
        "^overfit_batch.*capacity": "capacity-too-small learning-rate-too-low missing-nonlinearity",
        "^gradcheck": "wrong-custom-backward",
    },
    "preflight-ml": {
        "^exception|failed|Could not": RAISED,
        "^nan_inf": "nonfinite-inputs",
        "^normalisation": "inputs-not-normalised wrong-normalisation-statistics features-on-wild-scales "
        "constant-inputs inputs-normalised-twice unscaled-regression-target",
        "^channel_ordering": "channels-last-input",
        "^label_leakage": "train-val-leakage",
        "^class_imbalance": "class-imbalance missing-classes",
        "^gradient_check.*(no gradient|zero)": "graph-cut unused-parameters dead-relu zero-gradient ignored-input",
        "^gradient_check.*exploding": "exploding-gradient exploding-initialisation inputs-not-normalised "
        "features-on-wild-scales unscaled-regression-target loss-summed",
    },
    "torch-audit": {
        "^exception": RAISED,
        "^TA100": NONFINITE + " learning-rate-too-high exploding-initialisation",
        "^TA102": "exploding-gradient exploding-initialisation learning-rate-too-high gradients-not-cleared "
        "loss-summed unscaled-regression-target",
        "^TA104": "loss-detached graph-cut everything-frozen gradients-cleared-before-step parameters-not-updated",
        "^TA105": "dead-relu vanishing-initialisation saturated-activations",
        "^TA301": "inputs-not-normalised wrong-normalisation-statistics features-on-wild-scales",
        "^TA302": "constant-inputs repeated-samples",
        "^TA303": "channels-last-input",
        "^TA304": "batch-size-extreme batchnorm-on-single-sample batchnorm-statistics-lag",
        "^TA405": "vanishing-initialisation symmetric-initialisation",
        "^TA500": "unused-parameters ignored-input",
    },
    "torcheck": {
        "^exception": RAISED,
        "should change": UNCHANGED,
        "contains": NONFINITE + " learning-rate-too-high exploding-initialisation",
        "shouldn't all": LOGITS,
        "belong to any optimizer": "parameters-missing-from-optimizer stale-optimizer-parameters",
    },
    "lightning": {"^exception": RAISED, "not finite": NONFINITE + " learning-rate-too-high", "no step": "empty-loader"},
}


@dataclass
class Answer:
    """``fails``, ``warnings``: "check: message". ``raised``: what is an error inside a check, of whomever's code."""

    fails: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    raised: list[str] = field(default_factory=list)
    crashed: str = ""


class TimeUp(BaseException):
    """No Exception, so that no tool catches it."""


def fresh(build: Callable[[], Any], seed: int) -> tuple[Any, Any]:
    """The pipeline, with the parts that nobody gave, and the engine that runs its steps as it says."""
    import torch

    from diagnose import defaults
    from diagnose.rng import seed_all
    from diagnose.training.step import Engine

    seed_all(seed)
    pipeline, choices = build(), defaults.Choices()
    defaults.choose_task(pipeline, choices)
    defaults.choose_loss(pipeline, choices)
    defaults.choose_optimizer(pipeline, choices, {})
    pipeline.model.train()
    engine = Engine(pipeline, torch.device("cpu"))
    engine.close()
    return pipeline, engine


def train(pipeline: Any, engine: Any, steps: int) -> None:
    """``steps`` steps of the pipeline's own training."""
    from torch.optim.lr_scheduler import ReduceLROnPlateau

    scheduler, done = pipeline.scheduler, 0
    while done < steps:
        before, loss = done, None
        for raw in pipeline.train:
            loss, done = engine.step(raw).loss, done + 1
            if scheduler is not None and pipeline.scheduler_interval == "step":
                scheduler.step()
            if done == steps:
                return
        if done == before:
            raise ValueError("the training loader yields no batch")
        engine.finish_update()
        if scheduler is not None and pipeline.scheduler_interval == "epoch":
            scheduler.step(*([loss] if isinstance(scheduler, ReduceLROnPlateau) else []))


def control(build: Callable[[], Any], seed: int) -> str:
    """The error that a plain training and validation loop meets, if any."""
    import torch

    try:
        pipeline, engine = fresh(build, seed)
        train(pipeline, engine, WATCHED)
        pipeline.model.eval()
        with torch.no_grad():
            for raw in pipeline.val if pipeline.val is not None and engine.has_loss else ():
                engine.loss(raw)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def warmed_up(optimizer: Any, *, always: bool) -> None:
    """The rate that a schedule starts from, where a user would otherwise be told that nothing moves in a warm-up."""
    for group in optimizer.param_groups if optimizer is not None else ():
        if always or group["lr"] == 0:
            group["lr"] = group.get("initial_lr", group["lr"])


def torchtest2(build: Callable[[], Any], seed: int) -> Answer:  # noqa: PLR0915
    import torch
    from torch import Tensor, nn
    from torchtest2 import check_model  # type: ignore[import-not-found]

    from diagnose.batches import understand
    from diagnose.errors import UsageError

    tried, engine = fresh(build, seed)
    output = output_of(engine, next(iter(tried.train))) if engine.has_loss else None
    pipeline, engine = fresh(build, seed)
    raw = next(iter(pipeline.train))
    signature = inspect.signature(pipeline.model.forward)
    required = {p.name for p in signature.parameters.values() if p.default is p.empty}
    try:
        batch, guessed = understand(raw, model_signature=signature), False
    except UsageError:  # only the user's own compute_loss knows what the model takes
        batch, guessed = understand(raw), True
    kwargs = {  # labels belong to the targets where the model can do without them
        key: value for key, value in batch.kwargs.items()
        if value is not batch.target or (key in required and pipeline.compute_loss is None)
    }  # fmt: skip
    single = len(batch.inputs) == 1 and isinstance(batch.inputs[0], Tensor)
    inputs = kwargs or (batch.inputs[0] if single else batch.inputs)
    given: dict[str, Any] = {"gradcheck": custom_function(output), "optimizer": pipeline.optimizer}
    if "multiple-optimizers" in pipeline.intents:  # it takes one; without it, it makes its own
        given["optimizer"] = None
    elif "partial-optimizer" in pipeline.intents:
        held = {id(p) for group in pipeline.optimizer.param_groups for p in group["params"]}
        given["frozen"] = [name for name, p in pipeline.model.named_parameters() if id(p) not in held]
    warmed_up(pipeline.optimizer, always=True)
    plain = pipeline.compute_loss is None and pipeline.loss is not None and pipeline.precision == "fp32"
    if plain and isinstance(output, Tensor) and batch.target is not None and len(kwargs) == len(batch.kwargs):
        given["loss_fn"] = pipeline.loss
        if isinstance(pipeline.loss, nn.CrossEntropyLoss) and pipeline.task in ("classification", "segmentation"):
            given["output_shape"] = (None, pipeline.num_classes, *[None] * (output.ndim - 2))
        if isinstance(pipeline.loss, (nn.BCELoss, nn.NLLLoss)):
            given["output_range"] = (0, 1) if isinstance(pipeline.loss, nn.BCELoss) else (None, 0)
    elif pipeline.compute_loss is not None or pipeline.loss is not None:
        known = rebuilt(raw, inputs) is not None

        def forward(model: nn.Module, inputs: Any, targets: Any) -> Any:
            engine.model = model
            return engine.loss(rebuilt(raw, inputs) if known else raw).loss

        given |= {"forward_fn": forward, "loss_fn": lambda loss, *_: loss}
        if pipeline.compute_loss is not None and output is not None:

            def eval_forward(model: nn.Module, inputs: Any) -> Any:
                engine.model = model
                return output_of(engine, rebuilt(raw, inputs) if known else raw)

            given["eval_forward_fn"] = eval_forward
            given["skip"] = ["input_dependency"] * (guessed or not known) + ["batch_independence"] * (not known)
    tensors = list(kwargs.values()) or batch.inputs
    rows = batch.target.shape[0] if isinstance(batch.target, Tensor) and batch.target.ndim else None
    if not all(isinstance(item, Tensor) for item in tensors):
        given["batch_dim"] = None
    elif rows and tensors[0].shape[0] != rows and tensors[0].ndim > 1 and tensors[0].shape[1] == rows:
        first = isinstance(output, Tensor) and output.shape[0] == rows
        given |= {"batch_dim": 1, "output_batch_dim": 0 if first else 1}
    with torch.enable_grad():
        report = check_model(pipeline.model, inputs, batch.target, **given)
    answer = Answer(warnings=[f"{r.name}: {r.message}" for r in report.warnings])
    for r in report.failures:
        (answer.raised if "raised" in r.message else answer.fails).append(f"{r.name}: {r.message}")
    return answer


def output_of(engine: Any, raw: Any) -> Any:
    """What the model returns while the pipeline computes its loss; None where the model is not called as a whole."""
    caught: list[Any] = []
    handle = engine.model.register_forward_hook(lambda *told: caught.append(told[2]))
    try:
        output = engine.loss(raw).output
    finally:
        handle.remove()
    return caught[-1] if output is None and caught else output


def rebuilt(raw: Any, inputs: Any) -> Any:
    """The batch with other inputs; None where it is not plain which of its parts they are."""
    if isinstance(raw, Mapping):
        return {**raw, **inputs} if isinstance(inputs, Mapping) else None
    parts = inputs if isinstance(inputs, tuple) else (inputs,)
    if not isinstance(raw, (tuple, list)):
        return inputs if len(parts) == 1 and not isinstance(inputs, Mapping) else None
    if isinstance(inputs, Mapping) or len(parts) not in (len(raw) - 1, len(raw)):
        return None
    return (*parts, *raw[len(parts) :])


def custom_function(output: Any) -> bool:
    """Whether a hand-written autograd.Function is in the graph: for such models gradcheck is advised."""
    import torch

    seen: set[Any] = set()
    asked = [getattr(output, "grad_fn", None)]
    while asked:
        node = asked.pop()
        if node is not None and node not in seen:
            seen.add(node)
            asked += [following for following, _ in node.next_functions]
    return any(isinstance(node, torch.autograd.function.BackwardCFunction) for node in seen)


def preflight(build: Callable[[], Any], seed: int) -> Answer:
    from preflight.runner import run_checks  # type: ignore[import-not-found]

    pipeline, _ = fresh(build, seed)
    loss = pipeline.loss if pipeline.compute_loss is None else None
    results = run_checks(pipeline.train, pipeline.model, loss, {"val_dataloader": pipeline.val})
    answer = Answer()
    for r in results:
        if not r.passed and r.severity.value != "info":
            own = re.search("^Could not|pass failed|unexpected error", r.message)
            into = answer.raised if own else answer.fails if r.severity.value == "fatal" else answer.warnings
            into.append(f"{r.name}: {r.message}")
    return answer


def torch_audit(build: Callable[[], Any], seed: int) -> Answer:
    from torch_audit import autopatch  # type: ignore[import-not-found]

    pipeline, engine = fresh(build, seed)
    auditor = autopatch(pipeline.model, optimizer=pipeline.optimizer, every_n_steps=1)
    answer = Answer()
    try:
        train(pipeline, engine, WATCHED)
    except Exception as error:
        answer.raised.append(f"exception: {type(error).__name__}: {error}")
    for f in auditor.finish().findings:
        told = f"{f.rule_id}: {f.message}"
        if f.rule_id == "TA000":
            answer.crashed = told
        elif f.severity.value != "INFO":
            (answer.warnings if f.severity.value == "WARN" else answer.fails).append(told)
    return answer


def torcheck(build: Callable[[], Any], seed: int) -> Answer:
    from torch import Tensor, nn
    from torcheck.registry import Registry  # type: ignore[import-not-found]

    tried, engine = fresh(build, seed)
    try:
        output = engine.forward(next(iter(tried.train))).output
    except Exception:  # the user's own step calls the model in another way, or it fails again below
        output = None
    pipeline, engine = fresh(build, seed)
    registry, model = Registry(), pipeline.model
    held = {id(p) for group in pipeline.optimizer.param_groups for p in group["params"]}
    meant = bool({"partial-optimizer", "multiple-optimizers"} & set(pipeline.intents))
    frozen = not any(p.requires_grad for p in model.parameters())
    try:
        registry.register(pipeline.optimizer)
        for name, p in model.named_parameters():
            if id(p) in held or (p.requires_grad and not meant):
                registry.add_tensor(p, name, "model", p.requires_grad or frozen, check_nan=True, check_inf=True)
        if isinstance(output, Tensor):
            logits = isinstance(pipeline.loss, (nn.CrossEntropyLoss, nn.BCEWithLogitsLoss))
            registry._add_output_check(model, "model", (0, 1) if logits else None, logits, True, True)
        warmed_up(pipeline.optimizer, always=False)
        train(pipeline, engine, WATCHED)
    except Exception as error:
        cause = getattr(error, "original", error)
        frames = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(cause.__traceback__)]
        told = f"{type(cause).__name__}: {cause}"
        if isinstance(cause, RuntimeError) and "torcheck" in Path(frames[-1]).parts:
            return Answer(fails=[told])
        return Answer(raised=[f"exception: {told}"])
    return Answer()


def lightning(build: Callable[[], Any], seed: int) -> Answer:
    import logging

    import lightning as pl  # type: ignore[import-not-found]
    from torch.optim.lr_scheduler import ReduceLROnPlateau
    from torch.utils.data import DataLoader

    class Module(pl.LightningModule):  # type: ignore[misc]
        def __init__(self, pipeline: Any, engine: Any) -> None:
            super().__init__()
            self.net, self.pipeline, self.engine, self.losses = pipeline.model, pipeline, engine, list[float]()
            self.automatic_optimization = pipeline.train_step is None

        def training_step(self, batch: Any, _: int) -> Any:
            loss = self.engine.loss(batch).loss if self.automatic_optimization else self.engine.step(batch).loss
            self.losses.append(float(loss) if loss is not None else 0.0)
            self.log("loss", self.losses[-1], batch_size=1)
            return loss if self.automatic_optimization else None

        def validation_step(self, batch: Any, _: int) -> None:
            if self.engine.has_loss:
                self.engine.loss(batch)

        def configure_optimizers(self) -> Any:
            made: dict[str, Any] = {"optimizer": self.pipeline.optimizer}
            if (scheduler := self.pipeline.scheduler) is not None and self.automatic_optimization:
                interval = self.pipeline.scheduler_interval
                made["lr_scheduler"] = {"scheduler": scheduler, "interval": interval, "monitor": "loss"}
            return made

        def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
            scheduler.step(*([metric] if isinstance(scheduler, ReduceLROnPlateau) else []))

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    answer = Answer()
    quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    asked: tuple[dict[str, Any], ...] = (
        {"fast_dev_run": True},
        {"overfit_batches": 1, "max_epochs": OVERFITTED, "limit_val_batches": 0},
    )
    for options in asked:
        pipeline, engine = fresh(build, seed)
        module, own = Module(pipeline, engine), pipeline.train_step is None
        options |= {"accumulate_grad_batches": pipeline.accumulate if own else 1, **dict.fromkeys(quiet, False)}
        trainer = pl.Trainer(accelerator="cpu", gradient_clip_val=pipeline.clip_grad_norm if own else None, **options)
        val = pipeline.val if pipeline.val is not None and "fast_dev_run" in options else None
        # a list would be taken for several loaders
        loaders = [
            DataLoader(cast(Any, x), batch_size=None) if isinstance(x, list) else x for x in (pipeline.train, val)
        ]
        try:
            trainer.fit(module, *loaders)
        except Exception as error:
            answer.raised.append(f"exception: {type(error).__name__}: {error}")
            return answer
        if not all(map(math.isfinite, module.losses)):
            answer.fails.append("loss: not finite")
    if module.losses and min(module.losses[-10:]) > module.losses[0] - abs(module.losses[0]) / 2:
        answer.fails.append(f"overfit: the loss went from {module.losses[0]:.4g} to {module.losses[-1]:.4g}")
    elif not module.losses:
        answer.fails.append("overfit: no step was made")
    return answer


TOOLS: dict[str, Callable[[Callable[[], Any], int], Answer]] = {
    "torchtest2": torchtest2,
    "preflight-ml": preflight,
    "torch-audit": torch_audit,
    "torcheck": torcheck,
    "lightning": lightning,
}


def judge(case_id: str, seed: int, tool: str) -> dict[str, Any]:
    """One case under one seed with one tool, in this process."""
    import warnings
    from multiprocessing import set_start_method

    import torch
    from zoo import all_cases

    torch.set_num_threads(1)
    set_start_method("fork", force=True)  # the usual one for the workers of loaders
    warnings.simplefilter("ignore")
    case, started, answer = all_cases()[case_id], time.monotonic(), Answer()

    def stop(*_: Any) -> None:
        raise TimeUp

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT)
    try:
        try:
            answer = TOOLS[tool](case.build, seed)
        except Exception as error:
            answer.raised.append(f"exception: {type(error).__name__}: {error}")
        seconds = time.monotonic() - started
        signal.alarm(LIMIT)
        if answer.raised and control(case.build, seed):
            answer.fails += answer.raised
        elif answer.raised:
            answer.crashed = answer.raised[0][:300]
    except TimeUp:
        seconds, answer = time.monotonic() - started, Answer(crashed=f"no answer within {LIMIT} s")
    finally:
        signal.alarm(0)
    return line(case, seed, tool, answer, seconds)


def line(case: Any, seed: int, tool: str, answer: Answer, seconds: float) -> dict[str, Any]:
    said = answer.fails + answer.warnings
    says = {
        name for told in said for key, names in NAMES[tool].items() if re.search(key, told) for name in names.split()
    }
    return {
        "id": case.id,
        "fault": case.fault,
        "also": case.also,
        "seed": seed,
        "tool": tool,
        "version": version(tool),
        "detected_fail": bool(answer.fails),
        "detected_warning": bool(answer.warnings),
        "named": bool(says & {case.fault, *case.also}),
        "said": list(dict.fromkeys(text[:200] for text in said))[:12],
        "seconds": round(seconds, 2),
        "crashed": answer.crashed,
    }


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| tool | finds (fail level) | finds (with warnings) | names | healthy flagged (fail level) "
        "| healthy flagged (with warnings) | crashed |",
        "|---|---|---|---|---|---|---|",
    ]

    def share(group: list[dict[str, Any]], *keys: str) -> str:
        count = sum(any(row[key] for key in keys) for row in group)
        return f"{count}/{len(group)} ({count / len(group):.0%})" if group else "-"

    for tool in TOOLS:
        own = [row for row in rows if row["tool"] == tool]
        if not own:
            continue
        faulty, healthy = [row for row in own if row["fault"]], [row for row in own if not row["fault"]]
        cells = [
            f"{tool} {own[0]['version']}",
            *(share(faulty, "detected_fail"), share(faulty, "detected_fail", "detected_warning")),
            *(share(faulty, "named"), share(healthy, "detected_fail")),
            *(share(healthy, "detected_fail", "detected_warning"), share(own, "crashed")),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--programs", default="", help="the faulty cases of these programs only")
    options.add_argument("--seeds", default="0")
    options.add_argument("--tools", default=",".join(TOOLS))
    options.add_argument("--only", default="", help="cases whose id holds this text")
    options.add_argument("--minutes", type=float, default=math.inf, help="begin nothing new after this time")
    options.add_argument("--out", type=Path, default=ROOT / ".accuracy" / "peers.jsonl")
    options.add_argument("--table", type=Path)
    given = options.parse_args()
    if given.table:
        print(table([json.loads(text) for text in given.table.read_text().splitlines()]))
        return

    from zoo import all_cases

    programs = set(filter(None, given.programs.split(",")))
    cases = [c for c in all_cases().values() if given.only in c.id]
    chosen = [c for c in cases if c.fault and (not programs or c.program in programs)]
    random.Random(0).shuffle(chosen)
    names = [c.id for c in cases if not c.fault] + [c.id for c in chosen]
    given.out.parent.mkdir(parents=True, exist_ok=True)
    known = [json.loads(text) for text in given.out.read_text().splitlines()] if given.out.exists() else []
    done = {(row["id"], row["seed"], row["tool"]) for row in known}
    tasks = [
        (name, int(seed), tool) for seed in given.seeds.split(",") for name in names for tool in given.tools.split(",")
    ]
    asked = [task for task in tasks if task not in done]
    end, count = time.monotonic() + 60 * given.minutes, 0
    print(f"{len(asked)} to judge, {len(done)} judged already", file=sys.stderr)
    with given.out.open("a") as file:
        for start in range(0, len(asked), RENEWED):  # one fresh process now and then: tools leave memory behind
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                for task in asked[start : start + RENEWED]:
                    if time.monotonic() > end:
                        return
                    row = pool.submit(judge, *task).result()
                    count += 1
                    file.write(json.dumps(row) + "\n")
                    file.flush()
                    told = "; ".join(row["said"])[:90] or row["crashed"][:90] or "-"
                    print(
                        f"{count}/{len(asked)} {row['seconds']:5.1f} s  {row['tool']} {row['id']}: {told}",
                        file=sys.stderr,
                    )


if __name__ == "__main__":
    main()
