"""Evaluation: figures checked against scikit-learn or by hand for each task, its files, and unfit requests."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from probing import context
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from diagnose import Pipeline
from diagnose.errors import UsageError
from diagnose.training import checkpoints
from diagnose.training.evaluate import UNTRAINED, evaluate
from diagnose.training.loop import train
from diagnose.training.pictures import samples_picture
from diagnose.training.scores import RegressionScores


def loader(*tensors: Tensor, size: int = 8) -> Any:
    return DataLoader(TensorDataset(*tensors), size)


class Echo(nn.Module):
    """Returns its input: the tests choose the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


LOGITS = torch.randn(60, 6, generator=torch.Generator().manual_seed(1))
TARGETS = torch.arange(60) % 6


def echo(**changes: Any) -> Pipeline:
    made = Pipeline(Echo(), loader(LOGITS, TARGETS), loader(LOGITS, TARGETS), nn.CrossEntropyLoss(), num_classes=6)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def test_classification_against_scikit_learn(tmp_path: Path) -> None:
    from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, top_k_accuracy_score

    ctx = context(lambda: echo(class_names=["cat", "dog", "cat", "eel", "fox", "gnu"]))
    found = evaluate(ctx, tmp_path)
    predicted = LOGITS.argmax(1)
    assert found["accuracy"] == pytest.approx(accuracy_score(TARGETS, predicted))
    assert found["loss"] == pytest.approx(float(nn.functional.cross_entropy(LOGITS, TARGETS)), rel=1e-5)
    for k in (1, 3, 5):
        expected = top_k_accuracy_score(TARGETS, LOGITS, k=k)
        assert found["top_k"][str(k)] == pytest.approx(expected)
    assert found["confusion_matrix"] == confusion_matrix(TARGETS, predicted).tolist()
    assert [row["class"] for row in found["per_class"]] == ["cat", "dog", "cat", "eel", "fox", "gnu"]
    f1 = f1_score(TARGETS, predicted, average=None)
    assert [row["f1"] for row in found["per_class"]] == pytest.approx(f1.tolist())
    assert sum(row["support"] for row in found["per_class"]) == found["samples"] == 60
    assert (found["split"], found["checkpoint"]) == ("val", UNTRAINED)
    assert any("untrained" in note for note in ctx.notes)
    json.dumps(found, allow_nan=False)
    table = pd.read_csv(tmp_path / "predictions.csv")
    assert table["correct"].mean() == pytest.approx(found["accuracy"])
    assert (tmp_path / "figures/confidence_analysis.png").is_file()
    assert not (tmp_path / "figures/error_samples.png").exists()


def test_absent_classes_ignored_targets_and_nan(tmp_path: Path) -> None:
    targets = TARGETS.clone()
    targets[:6] = -100
    targets[targets == 5] = 4
    logits = LOGITS.clone()
    logits[10] = math.nan
    found = evaluate(context(lambda: echo(val=loader(logits, targets))), tmp_path)
    assert sum(row["support"] for row in found["per_class"]) == 54
    assert found["per_class"][5]["support"] == 0
    assert found["loss"] is None
    json.dumps(found, allow_nan=False)


def images() -> Pipeline:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 3, 8, 8, generator=generator)
    y = torch.arange(40) % 4
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    names = ["$a_b$", "日本", "x" * 60, "dog"]
    return Pipeline(
        net, loader(x, y), loader(x, y), epochs=1, num_classes=4, class_names=names, test=loader(x[:10], y[:10])
    )


def test_trained_checkpoint_pictures_and_test_split(tmp_path: Path) -> None:
    ctx = context(images)
    train(ctx, tmp_path)
    found = evaluate(ctx, tmp_path)
    assert found["checkpoint"] == "checkpoints/best_model.pth"
    assert found["accuracy"] == pytest.approx(ctx.history()[-1]["val_accuracy"])
    assert found["loss"] == pytest.approx(ctx.history()[-1]["val_loss"], rel=1e-5)
    assert (tmp_path / "figures/error_samples.png").stat().st_size > 2_000
    assert samples_picture(ctx, tmp_path) == tmp_path / "figures/samples.png"
    found = evaluate(ctx, tmp_path, split="test", checkpoint="latest_checkpoint.pth")
    assert (found["samples"], found["checkpoint"]) == (10, "checkpoints/latest_checkpoint.pth")
    (tmp_path / "checkpoints/best_model.pth").write_bytes(b"")
    assert evaluate(ctx, tmp_path)["checkpoint"] == "checkpoints/latest_checkpoint.pth"


def test_no_picture_of_what_is_no_image(tmp_path: Path) -> None:
    assert samples_picture(context(echo), tmp_path) is None


def test_held_out_part_is_the_one_that_training_left_out(tmp_path: Path) -> None:
    ctx = context(lambda: echo(val=None, epochs=1))
    train(ctx, tmp_path)
    found = evaluate(ctx, tmp_path)
    assert found["samples"] == 12
    assert found["loss"] == pytest.approx(ctx.history()[-1]["val_loss"], rel=1e-5)


def test_unfit_requests(tmp_path: Path) -> None:
    ctx = context(echo)
    with pytest.raises(UsageError, match=r"no such split, it has val, train"):
        evaluate(ctx, tmp_path, split="test")
    with pytest.raises(UsageError, match="expected val, test, train"):
        evaluate(ctx, tmp_path, split="dev")
    with pytest.raises(UsageError, match="does not exist"):
        evaluate(ctx, tmp_path, checkpoint="none.pth")
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "other.pth")
    with pytest.raises(UsageError, match="the file lacks scale; the model lacks weight, bias"):
        evaluate(ctx, tmp_path, checkpoint=str(tmp_path / "other.pth"))
    with pytest.raises(UsageError, match="needs data"):
        evaluate(context(Echo, input="4"), tmp_path)


def test_regression(tmp_path: Path) -> None:
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

    x = torch.randn(40, 2)
    y = x + 0.3 * torch.randn(40, 2) + 100
    found = evaluate(context(lambda: echo(train=loader(x, y), val=loader(x, y), loss=nn.MSELoss())), tmp_path)
    assert found["mae"] == pytest.approx(mean_absolute_error(y, x), rel=1e-5)
    assert found["rmse"] == pytest.approx(root_mean_squared_error(y, x), rel=1e-5)
    assert found["r2"] == pytest.approx(r2_score(y, x), rel=1e-4)
    assert list(pd.read_csv(tmp_path / "predictions.csv")) == [
        "index",
        "true_0",
        "predicted_0",
        "true_1",
        "predicted_1",
    ]


def test_regression_of_a_constant_target_has_no_r2() -> None:
    scores = RegressionScores()
    scores.add(torch.zeros(4), torch.ones(4), ())
    assert scores.result() == {"mae": 1.0, "rmse": 1.0, "r2": None}


def test_regression_far_from_zero_keeps_its_digits() -> None:
    from sklearn.metrics import r2_score

    true = torch.randn(64, 2) + 1e5
    true[:, 1] = 7.0
    predicted = true + 0.5 * torch.randn(64, 2)
    scores = RegressionScores()
    for rows in (slice(0, 1), slice(1, 40), slice(40, 64)):
        scores.add(predicted[rows], true[rows], ())
    assert scores.result()["r2"] == pytest.approx(r2_score(true[:, 0].double(), predicted[:, 0].double()), abs=1e-6)


@pytest.mark.parametrize("names", [(), ("churn",), ("stays", "leaves")])
@pytest.mark.parametrize("shares", [False, True])
def test_a_yes_or_no_is_two_classes(tmp_path: Path, names: tuple[str, ...], shares: bool) -> None:
    from sklearn.metrics import average_precision_score, confusion_matrix, roc_auc_score

    logits = torch.randn(50, 1)
    y = (logits + torch.randn(50, 1) > 0).float()
    x = logits.sigmoid() if shares else logits
    loss = nn.BCELoss() if shares else nn.BCEWithLogitsLoss()

    def build() -> Pipeline:
        made = echo(train=loader(x, y[:, 0]), val=loader(x, y[:, 0]), loss=lambda o, t: loss(o, t.reshape(o.shape)))
        made.task, made.class_names = "multilabel", names
        return made

    found = evaluate(context(build), tmp_path)
    assert found["accuracy"] == pytest.approx(float((y == (logits > 0)).float().mean()))
    assert found["confusion_matrix"] == confusion_matrix(y, logits > 0).tolist()
    assert found["roc_auc"] == pytest.approx(roc_auc_score(y, logits))
    assert found["average_precision"] == pytest.approx(average_precision_score(y, logits))
    assert found["positive_class"] == {0: "1", 1: "churn", 2: "leaves"}[len(names)]
    assert found["class_names"][0] == {0: "0", 1: "not churn", 2: "stays"}[len(names)]


def test_multilabel(tmp_path: Path) -> None:
    from sklearn.metrics import accuracy_score, f1_score

    x = torch.randn(50, 4)
    y = (x + torch.randn(50, 4) > 0).float()

    def build() -> Pipeline:
        made = echo(train=loader(x, y), val=loader(x, y), loss=nn.BCEWithLogitsLoss())
        made.task, made.num_classes = "multilabel", 4
        return made

    found = evaluate(context(build), tmp_path)
    predicted = (x > 0).float()
    assert found["macro_f1"] == pytest.approx(f1_score(y, predicted, average="macro"))
    assert found["subset_accuracy"] == pytest.approx(accuracy_score(y, predicted))
    assert found["micro_f1"] == pytest.approx(f1_score(y, predicted, average="micro"))
    assert found["accuracy"] == pytest.approx(float((y == predicted).float().mean()))


def test_segmentation(tmp_path: Path) -> None:
    from sklearn.metrics import jaccard_score

    x = torch.randn(12, 3, 5, 5)
    y = torch.randint(0, 3, (12, 5, 5))
    y[:, 0] = 255

    def build() -> Pipeline:
        made = echo(
            train=loader(x, y), val=loader(x, y), loss=nn.CrossEntropyLoss(ignore_index=255), task="segmentation"
        )
        made.num_classes = 3
        return made

    found = evaluate(context(build), tmp_path)
    keep = y != 255
    true, predicted = y[keep], x.argmax(1)[keep]
    assert found["pixel_accuracy"] == pytest.approx(float((true == predicted).float().mean()))
    assert found["mean_iou"] == pytest.approx(jaccard_score(true, predicted, average="macro"))
    assert sum(map(sum, found["confusion_matrix"])) == int(keep.sum())


def test_binary_segmentation(tmp_path: Path) -> None:
    x = torch.randn(6, 1, 5, 5)
    y = (x > 0).float()

    def build() -> Pipeline:
        return echo(train=loader(x, y), val=loader(x, y), loss=nn.BCEWithLogitsLoss(), task="segmentation")

    assert evaluate(context(build), tmp_path)["mean_iou"] == 1.0


def test_language_model(tmp_path: Path) -> None:
    tokens = torch.randint(0, 7, (16, 10))
    targets = tokens.roll(-1, 1).clone()
    targets[:, -1] = -100

    def build() -> Pipeline:
        class Model(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.table = nn.Embedding(7, 7)

            def forward(self, x: Tensor) -> Tensor:
                out: Tensor = self.table(x)
                return out

        def loss(output: Tensor, target: Tensor) -> Tensor:
            return nn.functional.cross_entropy(output.flatten(0, 1), target.flatten())

        data = loader(tokens, targets)
        return Pipeline(Model(), data, data, loss, task="language-model")

    ctx = context(build)
    found = evaluate(ctx, tmp_path)
    assert found["tokens"] == 16 * 9
    assert found["perplexity"] == pytest.approx(math.exp(found["loss"]), rel=1e-4)
    assert 0 <= found["token_accuracy"] <= 1


@pytest.mark.parametrize("in_the_loss", [True, False])
@pytest.mark.parametrize("classes_second", [True, False])
def test_next_tokens_are_counted_wherever_the_labels_are_shifted(
    tmp_path: Path, in_the_loss: bool, classes_second: bool
) -> None:
    count = torch.arange(16 * 10).reshape(16, 10) % 7

    class Counting(nn.Module):
        """After k comes k + 1: always right."""

        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.full((), 9.0))

        def forward(self, x: Tensor) -> Tensor:
            scores = nn.functional.one_hot((x + 1) % 7, 7) * self.scale
            return scores.movedim(-1, 1) if classes_second else scores

    def loss(output: Tensor, target: Tensor) -> Tensor:
        scores = output if classes_second else output.movedim(-1, 1)
        if in_the_loss:
            scores, target = scores[:, :, :-1], target[:, 1:]
        return nn.functional.cross_entropy(scores, target)

    def build() -> Pipeline:
        data = loader(count, count if in_the_loss else (count + 1) % 7)
        return Pipeline(Counting(), data, data, loss, task="language-model")

    ctx = context(build)
    assert ctx.trainings.shifts_targets() is in_the_loss
    assert evaluate(ctx, tmp_path)["token_accuracy"] == 1.0
    trace = ctx.subset()
    assert trace.points[0].train_score == trace.points[0].val_score == 1.0


def test_custom_task_tells_loss_and_own_metrics(tmp_path: Path) -> None:
    def build() -> Pipeline:
        return echo(task="custom", metrics={"largest": lambda output, target: output.max()})

    found = evaluate(context(build), tmp_path)
    assert set(found) == {"loss", "largest", "split", "samples", "checkpoint"}


def test_nothing_is_executed_from_a_checkpoint(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (print, ("executed",))

    path = tmp_path / "checkpoints/best_model.pth"
    path.parent.mkdir()
    torch.save({"model": Evil(), "epoch": 1, "step": 1, "history": []}, path)
    with pytest.raises(checkpoints.Unreadable):
        checkpoints.read(path)
    with pytest.raises(UsageError, match="cannot be read safely"):
        evaluate(context(echo), tmp_path, checkpoint=str(path))


def test_calibration_by_hand(tmp_path: Path) -> None:
    """Two bins: sure at 0.8 and right in half, sure at 0.6 and always right."""
    from diagnose.training.calibration import confidence_figures, confused_pairs

    found = confidence_figures([0.8, 0.8, 0.6, 0.6, math.nan], [True, False, True, True, False])
    assert found["expected_calibration_error"] == pytest.approx(0.5 * 0.3 + 0.5 * 0.4)
    assert found["mean_confidence_right"] == pytest.approx((0.8 + 0.6 + 0.6) / 3)
    assert found["mean_confidence_wrong"] == pytest.approx(0.8)
    assert confidence_figures([], [])["expected_calibration_error"] is None
    assert confused_pairs([[5, 2], [0, 3]], ["a", "b"]) == [{"true": "a", "predicted": "b", "count": 2, "share": 2 / 7}]
    told = evaluate(context(echo), tmp_path)
    assert 0 < told["expected_calibration_error"] < 1
    assert sum(row["samples"] for row in told["reliability"]) == told["samples"]


@pytest.mark.parametrize("task", ["regression", "multilabel", "segmentation"])
def test_each_task_has_its_picture(task: str, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(12, 3, 8, 8, generator=generator)
    made = {
        "regression": (x[:, 0, 0, :1], x[:, 0, 0, :1] * 0.5, nn.MSELoss(), "regression"),
        "multilabel": (x[:, :, 0, 0], (x[:, :, 0, 0] > 0.3).float(), nn.BCEWithLogitsLoss(), "labels"),
        "segmentation": (x, x.argmax(1), nn.CrossEntropyLoss(), "segmentation"),
    }[task]
    inputs, targets, loss, name = made

    def build() -> Pipeline:
        data = loader(inputs, targets)
        return Pipeline(Echo(), data, data, loss, task=task, num_classes=3)  # type: ignore[arg-type]

    evaluate(context(build), tmp_path)
    assert (tmp_path / f"figures/{name}.png").stat().st_size > 1000
