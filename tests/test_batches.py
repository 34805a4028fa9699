"""Which part of a batch goes into the model, and which one is the target."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_sequence

from diagnose.batches import first_tensor, input_tensors, map_tensors, to_device, understand
from diagnose.errors import UsageError
from diagnose.target.tasks import default_loss, infer_task

X, X2, Y = torch.zeros(4, 3), torch.ones(4, 2), torch.tensor([0, 1, 0, 1])


class Pair(NamedTuple):
    x: Tensor
    y: Tensor


def one(x: Tensor) -> None: ...
def two(a: Tensor, b: Tensor) -> None: ...
def named(input_ids: Tensor, attention_mask: Tensor | None = None) -> None: ...


@pytest.mark.parametrize(
    ("raw", "inputs", "target"),
    [
        ((X, Y), (X,), Y),
        ([X, Y], (X,), Y),
        (Pair(X, Y), (X,), Y),
        ((X, X2, Y), (X, X2), Y),
        (((X, X2), Y), (X, X2), Y),
        (([X, X2], Y), (X, X2), Y),
        (X, (X,), None),
        ((X,), (X,), None),
    ],
)
def test_tuples_and_tensors(raw: Any, inputs: tuple[Tensor, ...], target: Tensor | None) -> None:
    batch = understand(raw)
    assert len(batch.inputs) == len(inputs)
    assert all(got is expected for got, expected in zip(batch.inputs, inputs, strict=True))
    assert batch.target is target
    assert (batch.size, batch.kwargs) == (4, {})
    assert batch.raw is raw


def test_dict_batches_keep_their_labels_for_a_model_that_takes_everything() -> None:
    raw = {"input_ids": X, "labels": Y}
    assert understand(raw).kwargs == raw
    assert understand(raw).target is Y


def test_dict_batches_by_signature() -> None:
    raw = {"input_ids": X, "attention_mask": X2, "labels": Y, "text": ["a"] * 4}
    batch = understand(raw, model_signature=inspect.signature(named))
    assert set(batch.kwargs) == {"input_ids", "attention_mask"}
    assert (batch.target is Y, batch.size) == (True, 4)
    lone = understand({"image": X, "label": Y}, model_signature=inspect.signature(one))
    assert lone.inputs[0] is X
    assert lone.target is Y
    with pytest.raises(UsageError, match=r"batch not understood.*The model takes x"):
        understand({"left": X, "right": X2, "label": Y}, model_signature=inspect.signature(one))


def test_dict_beside_a_target() -> None:
    batch = understand(({"input_ids": X}, Y))
    assert (batch.kwargs["input_ids"] is X, batch.target is Y, batch.size) == (True, True, 4)


def test_what_the_model_does_not_take_is_left_out() -> None:
    index = torch.arange(4)
    batch = understand((X, Y, index), model_signature=inspect.signature(one))
    assert (len(batch.inputs), batch.target is Y) == (1, True)
    assert understand((X, X2, Y), model_signature=inspect.signature(two)).target is Y


def test_variable_length() -> None:
    images = [torch.zeros(3, 8, 8), torch.zeros(3, 9, 7)]
    boxes = [{"boxes": torch.zeros(1, 4)}, {"boxes": torch.zeros(2, 4)}]
    detection = understand((images, boxes))
    assert (detection.inputs[0] is images, detection.target is boxes, detection.size) == (True, True, 2)
    sequences = [torch.zeros(5, 8), torch.zeros(3, 8), torch.zeros(9, 8)]
    assert understand(sequences).inputs == (sequences,)
    samples = understand([(torch.zeros(5), torch.tensor(1)), (torch.zeros(3), torch.tensor(0))])
    assert [len(item) for item in samples.inputs[0]] == [5, 3]
    assert len(samples.target) == 2
    packed = pack_sequence(sequences, enforce_sorted=False)
    assert understand((packed, torch.zeros(3))).size == 3


@pytest.mark.parametrize("raw", [None, "text", 3, (), [], {}, ("a", "b"), object()])
def test_what_is_no_batch(raw: Any) -> None:
    with pytest.raises(UsageError, match="batch not understood: got"):
        understand(raw)


def test_containers_survive_mapping() -> None:
    packed = pack_sequence([torch.zeros(2, 1), torch.zeros(1, 1)])
    raw = {"pair": Pair(X, Y), "items": [X, ("name", 3)], "packed": packed}
    mapped = map_tensors(raw, lambda tensor: tensor + 1)
    assert isinstance(mapped["pair"], Pair)
    assert mapped["pair"].y.tolist() == [1, 2, 1, 2]
    assert mapped["items"][1] == ("name", 3)
    assert isinstance(mapped["packed"], PackedSequence)
    assert mapped["packed"].data.sum() == 3
    moved = to_device(raw, "meta")
    assert moved["pair"].x.device.type == moved["items"][0].device.type == "meta"
    assert first_tensor({"a": "b", "c": [X]}) is X
    assert first_tensor(["a"]) is None


CE, BCE, MSE = torch.nn.CrossEntropyLoss(), torch.nn.BCEWithLogitsLoss(), torch.nn.MSELoss()


@pytest.mark.parametrize(
    ("loss", "target", "task"),
    [
        (CE, Y, "classification"),
        (CE, torch.full((4, 3), 1 / 3), "classification"),
        (CE, torch.zeros(2, 8, 8, dtype=torch.long), "segmentation"),
        (CE, torch.randint(50, (4, 16)), "language-model"),
        (CE, None, "classification"),
        (torch.nn.functional.cross_entropy, Y, "classification"),
        (BCE, torch.ones(4, 3), "multilabel"),
        (MSE, torch.randn(4), "regression"),
        (None, torch.randn(4, 2), "regression"),
        (None, torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]), "multilabel"),
        (None, torch.eye(3), "classification"),
        (None, None, "custom"),
        (None, [{"boxes": X}], "custom"),
        (None, Y, "classification"),
    ],
)
def test_tasks(loss: Any, target: Any, task: str) -> None:
    assert infer_task(loss, target) == task


def test_default_losses() -> None:
    assert isinstance(default_loss("classification"), torch.nn.CrossEntropyLoss)
    assert isinstance(default_loss("multilabel"), torch.nn.BCEWithLogitsLoss)
    assert default_loss("custom") is None


def test_input_tensors_hold_neither_the_target_nor_an_index() -> None:
    raw = {"image": torch.zeros(4, 3, 2, 2), "label": torch.arange(4), "index": torch.arange(4)}
    assert [tuple(x.shape) for x in input_tensors(understand(raw))] == [(4, 3, 2, 2)]
    assert [tuple(x.shape) for x in input_tensors(understand((torch.zeros(4), torch.zeros(4))))] == [(4,)]
