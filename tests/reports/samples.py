"""Realistic results to render: the model case, a healthy run, an inconclusive one, crashed ones, hostile text."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from probes.api import ProbeDoc, Stage
from probes.results import (
    Because,
    Cause,
    Diagnosis,
    Expected,
    Finding,
    Fix,
    Grade,
    Number,
    Result,
    RunResults,
    Series,
    Severity,
    StageResult,
    Status,
    Table,
    Text,
    Trace,
    Training,
    Verdict,
    Where,
)

DOCS = {
    "dropout-too-strong": ProbeDoc(
        code="REG701",
        name="dropout-too-strong",
        stage=Stage.SUBSET,
        summary="Dropout removes so much signal that the model cannot learn.",
        why=(
            "Dropout that is applied several times in a row multiplies: three times 0.5 keep one path in eight. "
            "The noise in the forward pass drowns the gradient."
        ),
        fix="Weaken the dropout to a conventional value, or remove it until the model learns.",
        takeaways=("Regularise a model only after it can overfit.", "Dropout rates multiply along the depth."),
        ladder=("Dropout 0.2 in the head.", "Dropout 0.1 in the head.", "No dropout.", "Then lr 5e-4."),
        references=("Srivastava et al. 2014, section A.4",),
    ),
    "stuck-at-chance": ProbeDoc(
        code="FIT901",
        name="stuck-at-chance",
        stage=Stage.SUBSET,
        summary="The model is no better than guessing.",
        why="",
        fix="",
        symptom=True,
    ),
    "weight-decay-too-strong": ProbeDoc(
        code="OPT623",
        name="weight-decay-too-strong",
        stage=Stage.SUBSET,
        summary="Weight decay is so strong that the model does not learn.",
        why="",
        fix="",
        experiment=True,
    ),
}

BEFORE = "self.head = nn.Sequential(\n    nn.Linear(256, 512),\n    nn.Dropout(0.5),\n)"
AFTER = "self.head = nn.Sequential(\n    nn.Linear(256, 512),\n    nn.Dropout(0.2),\n)"

CLASS_NAMES = [f"class {n}" for n in range(200)]
ENVIRONMENT = {"python": "3.11.9", "torch": "2.9.0", "device": "cpu", "threads": 2, "peak_memory_bytes": 1_234_567_890}
PIPELINE: dict[str, Any] = {
    "task": "classification",
    "parameters": 731112,
    "trainable": 731112,
    "num_classes": 200,
    "class_names": CLASS_NAMES,
    "batch_size": 64,
    "train_samples": 100_000,
    "val_samples": 10_000,
    "loss": "CrossEntropyLoss",
    "optimizer": "Adam",
    "param_groups": [{"lr": 0.0003, "weight_decay": 0.0}],
    "scheduler": None,
    "epochs": 50,
    "warnings": ["UserWarning: the loader has no worker processes"],
}
EXPECTED = tuple(
    Expected(epoch, "val_accuracy", low, high, "TinyImageNet, models in general")
    for epoch, low, high in ((1, 0.01, 0.02), (5, 0.04, 0.08), (10, 0.08, 0.15), (30, 0.25, 0.35), (50, 0.35, 0.5))
)


def history(epochs: int, loss: float = 5.306, drop: float = 0.0008, accuracy: float = 0.0056) -> list[dict[str, Any]]:
    return [
        {
            "epoch": n,
            "step": n * 63,
            "lr": 0.0003,
            "train_loss": loss - drop * (n - 1),
            "val_loss": loss - drop * (n - 1) - 0.004,
            "train_accuracy": accuracy - 0.0006 + 0.0002 * (n % 3),
            "val_accuracy": accuracy + 0.0004 * ((n + 1) % 2),
            "seconds": 3.1,
            "samples_per_second": 1290.3,
        }
        for n in range(1, epochs + 1)
    ]


def arm(name: str, seed: int, end: float) -> Series:
    """A validation loss that falls from 5.3 towards ``end``."""
    xs = [float(x) for x in range(0, 401, 20)]
    wobble = 0.012 * (seed + 1)
    ys = [end + (5.30 - end) * math.exp(-x / 180) + wobble * math.sin(x / 23 + seed) for x in xs]
    return Series(f"{name}, seed {seed}", xs, [round(y, 4) for y in ys], "step", "val_loss")


ARMS = (("as configured", 5.292), ("conv dropout only", 4.62), ("head dropout 0.2", 4.31), ("no dropout", 4.02))
RIVALS = (
    Because("labels-out-of-range", "200 classes, labels 0 to 199"),
    Because("cannot-overfit", "loss 0.00 after 220 steps without dropout"),
    Because("weight-decay-too-strong", "it does not learn with less of it either"),
)
WHERE = tuple(Where("models.py", line, "nn.Dropout(0.5)") for line in (41, 44, 47))

CAUSE = Cause(
    name="dropout-too-strong",
    code="REG701",
    grade=Grade.PROVED,
    summary="Dropout of 0.5 three times in the head keeps the model at chance; with 0.2 it learns in 3 of 3 seeds.",
    values={
        "head_p": 0.5,
        "repaired_seeds": 3,
        "accuracy": 0.0056,
        "chance": 0.005,
        "change": "head dropout 0.2",
        "learned": "3 of 3",
    },
    where=WHERE,
    fix=Fix("Lower the three dropouts of the head from 0.5 to 0.2.", BEFORE, AFTER),
    evidence=(
        Table(
            ("variant", "seed 0", "seed 1", "seed 2", "learns"),
            (
                ("as configured", 5.296, 5.297, 5.294, "0 of 3"),
                ("conv dropout only", 4.70, 4.69, 4.72, "3 of 3"),
                ("head dropout 0.2", 4.44, 4.43, 4.46, "3 of 3"),
                ("no dropout", 4.17, 4.16, 4.15, "3 of 3"),
            ),
            "Validation loss after 400 steps",
        ),
        *(arm(name, seed, end) for name, end in ARMS for seed in range(3)),
        Number("gradient norm of the first layer, as configured", 0.00042, "about 0.05, as without dropout"),
        Table(
            ("variant", "gradient norm", "activation variance"),
            (("as configured", 0.00042, 0.013), ("no dropout", 0.051, 0.74)),
            "Measured: signal at the first step",
        ),
    ),
    consequences=("stuck-at-chance",),
)

PASSES = tuple(
    Result(f"MOD20{i}", name, "smoke", Status.PASS, seconds=0.01)
    for i, name in enumerate(("dead-relu", "softmax-before-cross-entropy", "frozen-by-accident", "inplace-on-leaf"))
)


def _result(code: str, name: str, stage: str, status: Status, reason: str, *findings: Finding) -> Result:
    return Result(code, name, stage, status, reason, findings, 0.02)


def stuck() -> RunResults:
    """The model case: dropout too strong, proved by an experiment."""
    symptom = Finding(
        "stuck-at-chance",
        Severity.ERROR,
        "Accuracy 0.56 % lies inside the interval of guessing (0.5 %).",
        {"accuracy": 0.0056, "chance": 0.005, "loss_first": 5.306, "loss_last": 5.296},
    )
    warning = Finding(
        "single-threaded-loader",
        Severity.WARNING,
        "The loader works in the main process; loading takes 31 % of a step.",
        {"share": 0.31},
        (Where("dataset_utils.py", 12, "DataLoader(train, batch_size=64)"),),
    )
    return RunResults(
        tool_version="0.1.0",
        run_id="20250102-030405-abcd",
        command="run",
        created="2025-01-02T03:04:05Z",
        reproduce="diagnose run models.py:get_model --data dataset_utils:get_loaders --seed 0",
        target="models.py:get_model",
        verdict=Verdict.FAULTY,
        environment=ENVIRONMENT,
        pipeline=PIPELINE,
        config={
            "seed": 0,
            "set": ["model.name=deeper_wider", "data.batch_size=64"],
            "device": "auto",
            "budget": None,
            "quiet": False,
            "select": [],
            "fail_on": "warning",
        },
        diagnosis=Diagnosis(
            "The model learns as soon as the dropout of its head is weakened.",
            ("stuck-at-chance",),
            (
                CAUSE,
                Cause("lr-too-low", "OPT501", Grade.SUSPECTED, "A larger learning rate was not tried with the fix."),
            ),
            (
                Because("labels-unrelated-to-inputs", "the same data is learned without dropout"),
                Because("capacity-too-small", "the same model memorises 128 samples"),
                *RIVALS,
            ),
            tuple(Because(name, "needs a full training") for name in ("overfitting", "plateau")),
        ),
        results=(
            _result("DAT101", "split-overlap", "data", Status.PASS, "train 100,000 / val 10,000, no shared sample"),
            _result("DAT102", "labels-out-of-range", "data", Status.PASS, "200 classes, labels 0 to 199"),
            _result("DAT110", "slow-loader", "data", Status.FAIL, "", warning),
            _result("MOD201", "output-shape", "smoke", Status.PASS, "outputs (64, 200)"),
            *PASSES,
            _result("ENV301", "cuda-graphs", "smoke", Status.SKIPPED, "no CUDA device"),
            _result("FIT902", "cannot-overfit", "overfit", Status.PASS, "loss 0.00 after 220 steps without dropout"),
            _result("FIT901", "stuck-at-chance", "subset", Status.FAIL, "", symptom),
            _result("OPT623", "weight-decay-too-strong", "subset", Status.PASS, RIVALS[2].because),
        ),
        stages=(
            StageResult("data", Status.PASS, "train 100,000 / val 10,000", 2.4),
            StageResult("smoke", Status.PASS, "outputs (64, 200); first loss 5.31", 1.9),
            StageResult("mnist", Status.PASS, "97.1 % on the bundled digits", 14.2),
            StageResult("overfit", Status.PASS, "loss 0.00 after 220 steps", 21.0),
            StageResult("subset", Status.FAIL, "accuracy 0.56 % after 12 epochs on 10 %", 131.0),
        ),
        training=Training(history(12), EXPECTED),
    )


def healthy() -> RunResults:
    base = stuck()
    rows = [
        {
            "epoch": n,
            "train_loss": 2.3 * math.exp(-n / 4) + 0.02,
            "val_loss": 2.3 * math.exp(-n / 4) + 0.08,
            "train_accuracy": 1 - 0.9 * math.exp(-n / 3),
            "val_accuracy": 0.97 - 0.87 * math.exp(-n / 3),
        }
        for n in range(1, 11)
    ]
    matrix = [[50 - 2 * (i % 3) if i == j else (i * 7 + j) % 3 for j in range(10)] for i in range(10)]
    return replace(
        base,
        run_id="20250102-040506-beef",
        target="digits.py:pipeline",
        reproduce="diagnose run digits.py:pipeline --seed 0",
        verdict=Verdict.HEALTHY,
        pipeline={**PIPELINE, "num_classes": 10, "class_names": [], "epochs": 10, "warnings": []},
        diagnosis=Diagnosis("The pipeline learns.", ruled_out=base.diagnosis.ruled_out[:1]),
        results=base.results[:2] + PASSES,
        stages=tuple(
            StageResult(name, Status.PASS, "", 3.0)
            for name in ("data", "smoke", "mnist", "overfit", "subset", "train", "evaluate")
        ),
        training=Training(rows, (Expected(10, "val_accuracy", 0.9, 0.99, "given by the pipeline"),)),
        evaluation={
            "accuracy": 0.941,
            "loss": 0.231,
            "top_k": {"1": 0.941, "3": 0.988, "5": 0.996},
            "per_class": [
                {"class": str(i), "precision": 0.9 + i / 100, "recall": 0.95, "f1": 0.92 + i / 200, "support": 50}
                for i in range(10)
            ],
            "confusion_matrix": matrix,
        },
    )


def inconclusive() -> RunResults:
    return replace(
        stuck(),
        verdict=Verdict.INCONCLUSIVE,
        diagnosis=Diagnosis("", not_checked=(Because("overfitting", "no validation data"),)),
        results=(
            *PASSES,
            Result("FIT902", "cannot-overfit", "overfit", Status.INCONCLUSIVE, "1 of 3 seeds reached the floor"),
            Result("GRD401", "dead-gradient", "smoke", Status.INTERNAL, "KeyError: 'grad'"),
        ),
        stages=(
            StageResult("smoke", Status.PASS, "", 1.0),
            StageResult("overfit", Status.INCONCLUSIVE, "the budget of 90 s ended at step 140", 90.0),
            StageResult("subset", Status.SKIPPED, "overfit came to no verdict", 0.0),
        ),
        training=Training(),
    )


def crashed() -> RunResults:
    frames = (Where("train.py", 8, "loader = make()"), Where("dataset_utils.py", 31, "image = image / 0"))
    finding = Finding(
        "user-code-error",
        Severity.ERROR,
        "The pipeline factory raised ZeroDivisionError.",
        {"type": "ZeroDivisionError"},
        frames[-1:],
        (Trace("ZeroDivisionError", "division by zero", frames),),
    )
    return replace(
        stuck(),
        verdict=Verdict.FAULTY,
        diagnosis=Diagnosis("Your code raised before anything could be measured."),
        results=(
            Result("ENV001", "user-code-error", "data", Status.CRASHED, "ZeroDivisionError", (finding,), 0.1),
            Result("MOD201", "output-shape", "smoke", Status.SKIPPED, "needs the stage data"),
        ),
        stages=(
            StageResult("data", Status.CRASHED, "ZeroDivisionError: division by zero", 0.1),
            StageResult("smoke", Status.SKIPPED, "needs the stage data", 0.0),
        ),
        training=Training(),
    )


HOSTILE = (
    "| ``` <script>alert(1)</script>\n# h [x](javascript:y) ![i](http://e.vil) **b** _u_ &lt; $m$ ~~s~~ \x1b[31m\u202e"
)


def hostile() -> RunResults:
    """User text that tries to become markup everywhere it can appear."""
    where = (Where(HOSTILE, 3, HOSTILE),)
    trace = Trace(HOSTILE, HOSTILE + "\n````\n# out", where)
    finding = Finding(HOSTILE, Severity.WARNING, HOSTILE, {"x": HOSTILE}, where, (trace, Text(HOSTILE, HOSTILE)))
    table = Table((HOSTILE, "b"), ((HOSTILE, 1), (None, float("nan"))), HOSTILE)
    curve = Series(f"{HOSTILE}, seed 0", (0, 1, 2), (1.0, None, float("nan")), HOSTILE, HOSTILE)
    cause = Cause(
        HOSTILE,
        HOSTILE,
        Grade.SUSPECTED,
        HOSTILE,
        {HOSTILE: HOSTILE},
        where,
        Fix(HOSTILE, HOSTILE, HOSTILE + "\n```"),
        (table, curve, trace, Text(HOSTILE, HOSTILE), Number(HOSTILE, HOSTILE, HOSTILE)),
        (HOSTILE,),
    )
    because = (Because(HOSTILE, HOSTILE),)
    return replace(
        stuck(),
        run_id=HOSTILE,
        target=HOSTILE,
        reproduce=HOSTILE,
        environment={HOSTILE: HOSTILE},
        pipeline={HOSTILE: HOSTILE, "warnings": [HOSTILE], "class_names": [HOSTILE, "b"]},
        config={HOSTILE: {HOSTILE: [HOSTILE]}},
        diagnosis=Diagnosis(HOSTILE, (HOSTILE,), (cause, cause), because, because),
        results=(
            Result(HOSTILE, HOSTILE, HOSTILE, Status.FAIL, HOSTILE, (finding,)),
            Result(HOSTILE, f"{HOSTILE} 2", HOSTILE, Status.PASS, HOSTILE),
            Result(HOSTILE, f"{HOSTILE} 3", HOSTILE, Status.SKIPPED, HOSTILE),
        ),
        stages=(StageResult(HOSTILE, Status.FAIL, HOSTILE, float("nan")),),
        training=Training(
            ({"epoch": 1, "val_loss": float("nan"), HOSTILE: HOSTILE},),
            (Expected(1, HOSTILE, 0.1, 0.2, HOSTILE),),
        ),
        evaluation={HOSTILE: HOSTILE, "confusion_matrix": [[1, 2], [0, 4]], "top_k": {HOSTILE: None}},
    )


def empty(verdict: Verdict = Verdict.INCONCLUSIVE) -> RunResults:
    return RunResults("0.1.0", "", "", "", "", "", verdict)


def not_finite() -> RunResults:
    """A training that ran into nan: gaps everywhere."""
    nan = float("nan")
    rows = [
        {"epoch": 1, "train_loss": 5.3, "val_loss": 5.2, "val_accuracy": 0.006},
        {"epoch": 2, "train_loss": nan, "val_loss": None, "val_accuracy": None},
        {"epoch": 3, "train_loss": float("inf"), "val_loss": nan, "val_accuracy": nan},
    ]
    base = stuck()
    return replace(
        base, training=Training(rows, EXPECTED), evaluation={"accuracy": nan, "confusion_matrix": [[1, nan]]}
    )
