"""torchtest2: its check_model on the first batch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from peer.common import LOGITS, NONFINITE, RAISED, UNCHANGED, Answer, fresh, warmed_up

NAMES = {
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
}


def answer(build: Callable[[], Any], seed: int) -> Answer:  # noqa: PLR0915
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
