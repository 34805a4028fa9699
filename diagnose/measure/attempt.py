"""The first forward, loss and backward: what ran, what it put out, what failed and where."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from diagnose.batches import Batch, map_tensors
from diagnose.failures import CATEGORY, failure_name
from diagnose.measure.custom_functions import own_functions
from diagnose.measure.recorder import LossRecorder, plain
from diagnose.measure.sensitivity import only_step
from diagnose.measure.step_watch import gradient_norms
from diagnose.training.step import Engine, Forwarded
from diagnose.user_code import UserCodeError, user_code, user_frames
from probes.records.forward import Attempt, Failure, ModuleRecord

if TYPE_CHECKING:
    from torch import Tensor, nn


class ModuleWatch:
    """Hooks on every module: which one is running, and (``records``) what the leaves put out."""

    def __init__(self, model: nn.Module, *, records: bool = False) -> None:
        self.stack: list[tuple[str, nn.Module, tuple[Any, ...]]] = []
        self.records: dict[str, ModuleRecord] = {}
        self._recording = records
        self._handles = []
        for path, module in model.named_modules():
            self._handles.append(module.register_forward_pre_hook(self._enter(path), with_kwargs=True))
            self._handles.append(module.register_forward_hook(self._leave(path)))

    def _enter(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            self.stack.append((path, module, (*args, *kwargs.values())))

        return hook

    def _leave(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            while self.stack and self.stack.pop()[0] != path:
                pass
            if not self._recording or not isinstance(output, torch.Tensor) or any(module.children()):
                return
            with torch._C.DisableTorchFunction():  # whoever listens to the forward is not told of ours
                if output.is_floating_point():
                    self.records.pop(path, None)
                    self.records[path] = self._record(path, module, output)

        return hook

    def _record(self, path: str, module: nn.Module, output: Tensor) -> ModuleRecord:
        value = output.detach().float()
        size = value.numel()
        mean = float(value.mean()) if size else 0.0
        # As torch.std, at a sixth of the time.
        std = float(torch.linalg.vector_norm(value - mean)) / math.sqrt(size - 1) if size > 1 else 0.0
        return ModuleRecord(
            path=path,
            type=type(module).__name__,
            shape=tuple(value.shape),
            mean=mean,
            std=std,
            # A value that is not finite makes the deviation so; the squares of finite ones may overflow too.
            finite=math.isfinite(std + mean) or bool(torch.isfinite(value).all()),
            requires_grad=output.requires_grad,
            calls=1,
            zero_share=1 - int(torch.count_nonzero(value)) / size if size else 0.0,
        )

    @property
    def running(self) -> tuple[str, nn.Module, tuple[Any, ...]] | None:
        return self.stack[-1] if self.stack else None

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()


def describe(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')} on {value.device}"
    return type(value).__name__


def failure_of(error: UserCodeError, watch: ModuleWatch | None = None) -> Failure:
    """The user's exception as data, with the module that was running."""
    running = watch.running if watch is not None else None
    original = error.original
    phase, name = error.what, failure_name(original, error.what)
    if running and phase == "loss" and name == "output-shape-mismatch":  # inside the model, called by the user's loss
        inside = failure_name(original, "forward")
        phase, name = ("forward", inside) if inside != "user-code-error" else (phase, name)
    if running and name == "labels-out-of-range" and CATEGORY.search(str(original)):
        name = "user-code-error"  # a category among the inputs
    return Failure(
        name=name,
        phase=phase,
        type=type(original).__name__,
        message=_missed_row(original, running) or str(original),
        frames=user_frames(original),
        module=running[0] if running else "",
        module_type=type(running[1]).__name__ if running else "",
        inputs=tuple(describe(given) for given in running[2]) if running else (),
    )


def _missed_row(error: BaseException, running: tuple[str, nn.Module, tuple[Any, ...]] | None) -> str:
    """What torch leaves out: the rows of an embedding and those that it was asked for."""
    module, given = running[1:] if running else (None, ())
    if not isinstance(error, IndexError) or not isinstance(module, torch.nn.Embedding) or not given:
        return ""
    rows, asked = module.num_embeddings, given[0]
    if not isinstance(asked, torch.Tensor) or not asked.numel() or 0 <= int(asked.min()) <= int(asked.max()) < rows:
        return ""
    return f"{error}: rows {int(asked.min())} to {int(asked.max())} of an embedding that has 0 to {rows - 1}"


def attempt(engine: Engine, raws: list[Any]) -> Attempt:
    """Forward, loss and backward on ``raws[0]`` in train mode, whose gradients are left; then, if that takes none of
    torch's losses, the loss of its first half."""
    engine.model.train()
    watch = ModuleWatch(engine.model, records=True)
    recorder = LossRecorder(lambda: watch.running[:2] if watch.running else None)
    done: Forwarded | None = None
    own_step = only_step(engine.pipeline)
    reached: list[bool] = []
    called: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    handles = [
        p.register_hook(lambda _: reached.append(True))  # type: ignore[no-untyped-call]
        for p in engine.model.parameters()
        if p.requires_grad
    ]
    handles.append(engine.model.register_forward_pre_hook(_first_call(called), with_kwargs=True))
    try:
        with recorder:
            done = engine.step(raws[0]) if own_step else engine.loss(raws[0])
        error = None
    except UserCodeError as raised:
        error = raised
    finally:
        watch.close()
        for handle in handles:
            handle.remove()
    seen: dict[str, Any] = {
        "modules": tuple(watch.records.values()),
        "loss_calls": tuple(recorder.calls),
        "called_functions": tuple(recorder.functions),
        "unstable_logs": tuple(recorder.unstable_logs),
        "broadcasts": tuple(recorder.broadcasts),
    }
    if error is not None or done is None:
        assert error is not None
        seen.update(_inputs_of(engine, raws[0]))
        return Attempt(failure=failure_of(error, watch), **seen)
    seen.update(_describe(done, recorder))
    if engine.pipeline.compute_loss is not None and called and not engine.takes(done.batch):
        args, kwargs = called[0]
        seen |= {"inputs": (*args, *kwargs.values()), "keywords": tuple(kwargs), "own_call": True}
    if own_step:  # it did the backward too, and may return a plain number
        return Attempt(failure=None, **seen | {"loss_has_graph": bool(reached)})
    try:
        if seen["loss_has_graph"] and seen["loss_shape"] == ():
            watched = done.main if done.main is not None and done.main.requires_grad else None
            if watched is not None:
                watched.retain_grad()
            seen["own_functions"] = tuple(kind.__name__ for kind in own_functions(done.loss))
            with user_code("backward"):
                done.loss.backward()
            if watched is not None and watched.grad is not None and not watched.grad.is_sparse:
                seen["output_gradient"] = plain(watched.grad)
    except UserCodeError as raised:
        return Attempt(failure=failure_of(raised), **seen)
    trainable = {name: p for name, p in engine.model.named_parameters() if p.requires_grad}
    seen["gradients"] = dict.fromkeys(trainable) | gradient_norms(trainable)
    if not recorder.calls:  # those of torch's losses tell it
        seen["half_batch_loss"] = _half_batch_loss(engine, raws[0])
    return Attempt(failure=None, **seen)


def _describe(done: Forwarded, recorder: LossRecorder) -> dict[str, Any]:
    loss, main = done.loss, done.main
    tensor = isinstance(loss, torch.Tensor)
    if main is None and recorder.calls:
        main = recorder.calls[0].input
    return {
        "inputs": tuple(plain(x) if isinstance(x, torch.Tensor) else x for x in _given(done.batch)),
        "output": None if main is None else plain(main),
        "output_type": type(done.output).__name__,
        "output_has_graph": None if main is None or done.main is None else main.requires_grad,
        "target": plain(done.batch.target) if isinstance(done.batch.target, torch.Tensor) else done.batch.target,
        "loss": float(loss.detach() if tensor else loss) if _is_scalar(loss) else None,
        "loss_type": type(loss).__name__,
        "loss_shape": tuple(loss.shape) if tensor else None,
        "loss_has_graph": bool(tensor and loss.requires_grad),
    }


def _first_call(called: list[tuple[tuple[Any, ...], dict[str, Any]]]) -> Callable[..., None]:
    """A hook that keeps what the model is first called with."""

    def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
        if not called:
            called.append((map_tensors(args, plain), map_tensors(dict(kwargs), plain)))

    return hook


def _given(batch: Batch) -> tuple[Any, ...]:
    return batch.inputs or tuple(batch.kwargs.values())


def _inputs_of(engine: Engine, raw: Any) -> dict[str, Any]:
    try:
        batch = engine.prepare(raw)
    except UserCodeError:
        return {}
    target = batch.target
    return {
        "inputs": tuple(plain(x) if isinstance(x, torch.Tensor) else x for x in _given(batch)),
        "target": plain(target) if isinstance(target, torch.Tensor) else target,
    }


def _is_scalar(loss: Any) -> bool:
    if isinstance(loss, torch.Tensor):
        return loss.numel() == 1
    return isinstance(loss, (int, float))


def _half_batch_loss(engine: Engine, raw: Any) -> float | None:
    """The loss of the first half of the batch: half of the whole if the loss sums over samples."""
    size = engine.prepare(raw).size
    if size < 4:
        return None
    try:
        done = engine.loss(first_samples(raw, size, size // 2))
    except UserCodeError:  # code that depends on the batch size: no answer, and no fault either
        return None
    return float(done.loss.detach()) if _is_scalar(done.loss) and isinstance(done.loss, torch.Tensor) else None


def first_samples(raw: Any, size: int, keep: int) -> Any:
    """The first ``keep`` of the ``size`` samples of a raw batch."""
    if isinstance(raw, torch.Tensor):
        return raw[:keep] if raw.ndim and len(raw) == size else raw
    if isinstance(raw, dict):
        return {key: first_samples(value, size, keep) for key, value in raw.items()}
    if isinstance(raw, tuple) and hasattr(raw, "_fields"):
        return type(raw)(*(first_samples(item, size, keep) for item in raw))
    if isinstance(raw, (list, tuple)):
        if len(raw) == size and not any(
            isinstance(item, torch.Tensor) and len(item) == size for item in raw if getattr(item, "ndim", 0)
        ):
            return type(raw)(raw[:keep])
        return type(raw)(first_samples(item, size, keep) for item in raw)
    return raw
