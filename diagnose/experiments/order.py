"""The knobs and parts of the experiments, in the order of the search: the likeliest and cheapest first.

Without torch, for the parent process knows them too.
"""

from __future__ import annotations

# Settings whose change proves a name: knob -> the probes that judge its ablation.
SPEAKS: dict[str, tuple[str, ...]] = {
    "dropout": ("dropout-too-strong",),
    "weight-decay": ("weight-decay-too-strong",),
    "clipping": ("gradient-clip-too-small",),
    "regulariser": ("regulariser-dominates",),
    "label-smoothing": ("label-smoothing-too-strong",),
    "augmentation": ("label-destroying-augmentation", "augmentation-too-strong"),
    "inputs": ("features-on-wild-scales", "inputs-not-normalised"),
    "targets": ("unscaled-regression-target",),
    "lr": ("learning-rate-too-high", "learning-rate-too-low"),
}
# Parts whose swap for a known-good one shows where the fault lies.
PARTS = (
    "scheduler", "epsilon", "loss", "initialisation", "batchnorm", "batch-size", "parameters", "frozen", "loop",
    "precision", "channel-order", "optimizer", "width",
)  # fmt: skip
LOCALISES = "learns-with-another-part"
# What was only suspected of a part is proved where the swap of just that part repairs learning. Never a whole model.
CONFIRMS: dict[str, tuple[str, ...]] = {
    "scheduler": ("schedule-collapses", "warmup-outlasts-training", "schedule-period-mismatch"),
    "loss": ("softmax-before-cross-entropy", "mse-for-classification", "activation-on-logits", "unstable-log"),
    "initialisation": (
        "exploding-initialisation", "vanishing-initialisation", "symmetric-initialisation", "saturated-activations",
        "dead-relu",
    ),
    "batchnorm": ("batchnorm-statistics-lag",),
    "batch-size": ("batch-size-extreme", "batchnorm-on-single-sample"),
    "parameters": ("parameters-missing-from-optimizer", "stale-optimizer-parameters"),
    "frozen": ("everything-frozen",),
    "precision": ("fp16-underflow", "fp16-overflow", "bf16-update-lost"),
    "channel-order": ("scrambled-image-layout", "channels-last-input"),
    "optimizer": ("adam-epsilon-out-of-range",),
    "epsilon": ("adam-epsilon-out-of-range",),
    "width": ("capacity-too-small",),
}  # fmt: skip
# What is compared where no values are given.
ON_PURPOSE: dict[str, tuple[str, ...]] = {
    "scheduler": ("constant", "step", "multi-step", "exponential", "cosine", "plateau"),
    "optimizer": ("Adam", "AdamW", "SGD"),
    "batch-size": ("8", "32", "128"),
    "lr": ("1e-4", "1e-3", "1e-2", "1e-1"),
}
# Whole parts that localise only: the labels that are learned, the data, the model.
WHOLES = ("labels", "data", "model")
KNOBS = (*SPEAKS, *PARTS, *WHOLES)
