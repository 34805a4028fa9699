"""What the plain programs of the zoo showed: each fault that was missed or misnamed, and the healthy twin beside it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from probing import context, judge
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torchvision import transforms

from diagnose.failures import failure_name
from diagnose.pipeline import Pipeline
from probes.data.unscaled_regression_target import unscaled
from probes.results import Severity, Status

pytestmark = pytest.mark.filterwarnings("default")  # the programs are users' own


def case(name: str) -> Callable[[], Pipeline]:
    """The builder of a case by its id."""
    program = name.partition("/")[0]
    cases = importlib.import_module(f"zoo.unseen.{program}_faults").CASES
    return next(found.build for found in cases if found.id == name)


FOUND = [
    ("missing-classes", "plain_wine/missing-classes"),
    ("train-val-preprocessing-mismatch", "plain_wine/train-val-preprocessing-mismatch"),
    ("loss-sign-flipped", "plain_cnn/loss-sign-flipped"),
    ("softmax-over-batch", "plain_cancer/softmax-over-batch"),
    ("constant-inputs", "plain_text/constant-inputs"),
    ("repeated-samples", "plain_cnn/repeated-samples"),
    ("loss-detached", "plain_wine/loss-detached"),
    ("loss-detached", "plain_steps/loss-detached"),
    ("labels-unrelated-to-inputs", "plain_friedman/labels-unrelated-to-inputs"),
    ("wrong-normalisation-statistics", "plain_cnn/wrong-normalisation-statistics"),
    ("train-val-preprocessing-mismatch", "plain_cnn/train-val-preprocessing-mismatch"),
    ("wrong-loss-axis", "plain_unet/wrong-loss-axis"),
    ("activation-on-logits", "plain_friedman/activation-on-logits"),
    ("batch-mixing", "plain_text/batch-mixing/crashes"),
    ("output-shape-mismatch", "plain_text/output-shape-mismatch"),
    ("ignored-input", "plain_text/ignored-input"),
]
SILENT = [
    ("train-val-preprocessing-mismatch", "plain_wine/missing-classes"),
    ("missing-classes", "plain_wine/healthy"),
    ("train-val-preprocessing-mismatch", "plain_wine/healthy"),
    ("loss-sign-flipped", "plain_cnn/healthy/log_softmax_nll"),
    ("nll-on-probabilities", "plain_cnn/loss-sign-flipped"),
    ("softmax-over-batch", "plain_cancer/healthy/sigmoid_bceloss"),
    ("constant-inputs", "plain_text/healthy"),
    ("repeated-samples", "plain_cnn/healthy"),
    ("loss-detached", "plain_wine/healthy/returns_a_number"),
    ("loss-detached", "plain_steps/healthy/accumulates"),
    ("labels-unrelated-to-inputs", "plain_friedman/healthy"),
    ("num-classes-mismatch", "plain_unet/wrong-loss-axis"),
    ("output-shape-mismatch", "plain_text/batch-mixing/crashes"),
    ("num-classes-mismatch", "plain_text/output-shape-mismatch"),
    ("labels-out-of-range", "plain_text/output-shape-mismatch"),
]


@pytest.mark.parametrize(("name", "faulty"), FOUND)
def test_finds_what_is_wrong(name: str, faulty: str) -> None:
    assert name in judge(name, case(faulty)).names


@pytest.mark.parametrize(("name", "healthy"), SILENT)
def test_is_silent_on_the_twin(name: str, healthy: str) -> None:
    found = judge(name, case(healthy))
    assert not found.names
    assert found.status in {Status.PASS, Status.SKIPPED}


def classified(x: Any, y: Any, width: int = 3) -> Pipeline:
    data = TensorDataset(torch.as_tensor(x, dtype=torch.float32), torch.as_tensor(y))
    loader = DataLoader(data, batch_size=50, shuffle=True)
    model = nn.Sequential(nn.Flatten(), nn.Linear(data.tensors[0][0].numel(), width))
    return Pipeline(model, loader, loader, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters()))


def close_classes(rare: int, apart: float) -> Pipeline:
    """Class 2, ``apart`` deviations from class 0 in the first of four columns; class 1 is far from both."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [600, 300, rare])
    x = rng.normal(size=(len(y), 4))
    x[y == 1, 1] += 20
    x[y == 2, 0] += apart
    return classified(x, y)


def test_a_rare_class_beside_a_common_one_is_not_taken_for_the_same() -> None:
    """Nearest neighbours vote for the common class wherever both occur."""
    assert judge("classes-overlap", lambda: close_classes(60, 1.5)).status is Status.PASS
    assert judge("classes-overlap", lambda: close_classes(600, 0.0)).names == ["classes-overlap"]


class Crops(Dataset[Any]):
    """Random crops of a few large pictures, as many as are asked for."""

    def __init__(self, transform: Any) -> None:
        self.pictures = torch.rand(3, 1, 24, 24, generator=torch.Generator().manual_seed(0))
        self.transform = transform

    def __len__(self) -> int:
        return 200

    def __getitem__(self, index: int) -> Any:
        return self.transform(self.pictures[index % 3]), index % 3


def a_crop(picture: Any) -> Any:
    top, left = (int(torch.randint(16, ())) for _ in range(2))
    return picture[:, top : top + 8, left : left + 8]


def the_first_crop(picture: Any) -> Any:
    return picture[:, :8, :8]


def crops_of_few_pictures() -> Pipeline:
    train, val = DataLoader(Crops(a_crop), batch_size=20, shuffle=True), DataLoader(Crops(the_first_crop), 20)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    return Pipeline(model, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters()))


def test_many_crops_of_few_pictures_are_not_repeated() -> None:
    assert judge("repeated-samples", crops_of_few_pictures).status is Status.PASS


class Counts(nn.Module):
    """Counts the tokens that are no padding."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(1, 3)

    def forward(self, *tokens: Any) -> Any:
        return self.head((tokens[-1] > 0).float().sum(1, keepdim=True))


def runs(values: Any, *, mask: bool = False, embeds: bool = True) -> Pipeline:
    lengths = torch.randint(2, 18, (120,), generator=torch.Generator().manual_seed(0))
    filled = torch.arange(20) < lengths[:, None]
    inputs = [filled.long(), filled * values] if mask else [filled * values]
    loader = DataLoader(TensorDataset(*inputs, lengths % 3), batch_size=30)
    model = nn.Sequential(nn.Embedding(100, 4), nn.Flatten(), nn.Linear(80, 3)) if embeds and not mask else Counts()
    return Pipeline(model, loader, loader, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters()))


def test_tokens_that_differ_or_follow_a_mask_are_content() -> None:
    """The length of a run tells something where the token does; a mask is one run by nature."""
    different = torch.randint(1, 9, (120, 1), generator=torch.Generator().manual_seed(1))
    words = torch.randint(1, 99, (120, 20), generator=torch.Generator().manual_seed(1))
    assert judge("constant-inputs", lambda: runs(torch.ones(120, 1).long())).names
    assert not judge("constant-inputs", lambda: runs(torch.ones(120, 1).long(), embeds=False)).names  # a thermometer
    assert not judge("constant-inputs", lambda: runs(different)).names
    assert not judge("constant-inputs", lambda: runs(words, mask=True)).names


def test_lengths_that_the_tokens_tell_may_be_left_aside() -> None:
    found = judge("ignored-input", case("plain_text/healthy/masked_mean"))
    assert [finding.severity for finding in found.findings] == [Severity.NOTE]


@pytest.mark.parametrize(("target", "names"), [("plain", ["activation-on-logits"]), ("positive", [])])
def test_a_relu_at_the_end_is_fine_where_targets_are_positive(target: str, names: list[str]) -> None:
    def build() -> Pipeline:
        pipeline = case("plain_friedman/activation-on-logits")()
        x, y = pipeline.train.dataset.dataset.tensors  # type: ignore[attr-defined]
        pipeline.train.dataset.dataset.tensors = (x, y.abs() if target == "positive" else y)  # type: ignore[attr-defined]
        return pipeline

    assert judge("activation-on-logits", build).names == names


class Coloured(Dataset[Any]):
    """Bright pictures under torchvision's transforms."""

    def __init__(self, transform: Any) -> None:
        self.pictures = (60 + 120 * torch.rand(60, 8, 8, 3, generator=torch.Generator().manual_seed(0))).byte().numpy()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Any:
        return self.transform(self.pictures[index]), index % 2


@pytest.mark.parametrize(("mean", "names"), [(0.47, []), (0.45, []), (0.0, ["train-val-preprocessing-mismatch"])])
def test_normalised_by_nearly_the_same_statistics_is_alike(mean: float, names: list[str]) -> None:
    """Who measures the splits apart gets statistics that differ a little; who leaves the mean out does not."""

    def build() -> Pipeline:
        of = [
            transforms.Compose([transforms.ToTensor(), transforms.Normalize([m] * 3, [0.14] * 3)]) for m in (0.47, mean)
        ]
        train, val = (DataLoader(Coloured(transform), batch_size=20) for transform in of)
        model = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
        return Pipeline(model, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters()))

    assert judge("train-val-preprocessing-mismatch", build).names == names


def scheduled(factor: float) -> Pipeline:
    pipeline = case("plain_friedman/healthy")()
    assert pipeline.optimizer is not None
    pipeline.scheduler = torch.optim.lr_scheduler.ExponentialLR(pipeline.optimizer, factor)
    pipeline.scheduler_interval = "step"
    pipeline.epochs = 10  # 250 steps
    return pipeline


def test_a_rate_that_is_gone_after_a_sixth_of_the_run_has_collapsed() -> None:
    assert judge("schedule-collapses", lambda: scheduled(0.9)).names == ["schedule-collapses"]
    assert not judge("schedule-collapses", lambda: scheduled(0.98)).names


def test_a_target_that_is_far_off_is_no_want_of_capacity() -> None:
    assert unscaled(context(case("plain_friedman/unscaled-regression-target")))
    assert not unscaled(context(case("plain_friedman/healthy")))


UNEQUAL = "stack expects each tensor to be equal size, but got [3] at entry 0 and "


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (AttributeError("no attribute 'transforms'", name="transforms", obj=TensorDataset()), "user-code-error"),
        (AttributeError("'Image' object has no attribute '_getexif'"), "unreadable-sample"),
        (NameError("name 'Imge' is not defined"), "user-code-error"),
        (TypeError("__call__() takes 2 positional arguments but 3 were given"), "user-code-error"),
        (
            RuntimeError("stack expects each tensor to be equal size, but got [3] at entry 0 and [5] at entry 1"),
            "user-code-error",
        ),
        (
            RuntimeError("stack expects each tensor to be equal size, but got [3] at entry 0 and [1] at entry 7"),
            "unreadable-sample",
        ),
        (AttributeError("'NoneType' object has no attribute 'shape'"), "unreadable-sample"),
        (AttributeError("'float' object has no attribute 'split'"), "unreadable-sample"),
        (OSError("image file is truncated"), "unreadable-sample"),
        (KeyError("label"), "unreadable-sample"),
    ],
)
def test_reading_fails_by_the_code_or_by_a_sample(error: Exception, name: str) -> None:
    assert failure_name(error, "reading data") == name


def test_code_that_cannot_read_either_split_is_told_with_its_line() -> None:
    found = judge("unreadable-sample", case("plain_text/user-code-error/stack_of_ragged"))
    assert found.names == ["user-code-error"]
    assert "torch.stack" in found.findings[0].where[0].text


def test_losses_and_data_are_found_in_the_users_code() -> None:
    ctx = context(case("plain_text/healthy"))
    assert [place.text for place in ctx.loss_at()] == ["loss=nn.CrossEntropyLoss(),"]
    assert [place.text for place in ctx.data_at("val")][1:] == ["def __getitem__(self, index):"]
    assert context(case("plain_gpt/healthy")).loss_at()[0].text == "def compute_loss(model, batch):"
    assert not context(case("plain_wine/healthy")).data_at("train")[1:], "a data set of torch"
