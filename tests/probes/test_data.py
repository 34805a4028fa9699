"""Each probe of the data finds its fault, and is silent on the healthy twin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import small_pipelines as small
import torch
from probing import judge
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, TensorDataset, WeightedRandomSampler

from diagnose.pipeline import Pipeline
from probes.results import Severity, Status


def small_head(classes: int) -> nn.Module:
    net = small.cnn()
    net[-1] = nn.Linear(64, classes)
    return net


def loaders(train: Any, val: Any = None) -> dict[str, Any]:
    found = {"train": DataLoader(train, batch_size=32, shuffle=True)}
    return found if val is None else {**found, "val": DataLoader(val, batch_size=64)}


def sorted_digits() -> Pipeline:
    images, labels = (part[:512] for part in small.digits_tensors())
    order = labels.argsort(stable=True)
    return small.digits_cnn(train=DataLoader(TensorDataset(images[order], labels[order]), batch_size=32))


def sequential_digits() -> Pipeline:
    return small.digits_cnn(shuffle=False)


def drops_everything() -> Pipeline:
    train = TensorDataset(*(part[:20] for part in small.digits_tensors()))
    return small.digits_cnn(train=DataLoader(train, batch_size=32, drop_last=True))


def drops_much() -> Pipeline:
    train = TensorDataset(*(part[:50] for part in small.digits_tensors()))
    return small.digits_cnn(train=DataLoader(train, batch_size=32, drop_last=True))


class Broken(small.Images):
    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if index == 100:
            raise OSError("cannot identify image file 'digit_100.png'")
        return super().__getitem__(index)


def unreadable() -> Pipeline:
    return small.digits_cnn(train=DataLoader(Broken(*small.digits_tensors()), batch_size=32))


def with_nan(images: Tensor) -> Tensor:
    images = images.clone()
    images[::40, 0, 2, 3] = float("nan")
    return images


def nan_inputs() -> Pipeline:
    return small.digits_cnn(images=with_nan, shuffle=False)


def nan_handled() -> Pipeline:
    class Filled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = small.cnn()

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.net(torch.nan_to_num(x))
            return out

    return small.digits_cnn(model=Filled, images=with_nan, shuffle=False)


def blank() -> Pipeline:
    return small.digits_cnn(images=lambda x: (x * 0.5).floor())


class IgnoresIndex(small.Images):
    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[0], int(self.labels[index])


def repeated() -> Pipeline:
    return small.digits_cnn(train=DataLoader(IgnoresIndex(*small.digits_tensors()), batch_size=32, shuffle=True))


def drawn_from_few() -> Pipeline:
    """A sampler that draws mostly a handful of samples: an odd choice, but no fault of the data set."""
    images, labels = (part[:512] for part in small.digits_tensors())
    weights = torch.full((512,), 1e-6)
    weights[:10] = 1.0
    sampler = WeightedRandomSampler(weights.tolist(), 512)
    return small.digits_cnn(train=DataLoader(TensorDataset(images, labels), batch_size=32, sampler=sampler))


def doubled() -> Pipeline:
    data = TensorDataset(*(part[:300] for part in small.digits_tensors()))
    return small.digits_cnn(**loaders(ConcatDataset([data, data])))


def from_one() -> Pipeline:
    return small.digits_cnn(labels=lambda y: y + 1)


def minus_one() -> Pipeline:
    return small.digits_cnn(labels=lambda y: torch.where(y == 9, -1, y))


def minus_one_ignored() -> Pipeline:
    return small.digits_cnn(labels=lambda y: torch.where(y == 9, -1, y), loss=nn.CrossEntropyLoss(ignore_index=-1))


def from_one_then_shifted() -> Pipeline:
    """Labels from 1, and a loss of the user's own that takes 1 off: nothing is wrong."""

    def compute_loss(model: nn.Module, batch: Any) -> Tensor:
        return F.cross_entropy(model(batch[0]), batch[1] - 1)

    return small.digits_cnn(labels=lambda y: y + 1, compute_loss=compute_loss)


def float_labels() -> Pipeline:
    images, labels = (part[:128] for part in small.digits_tensors())
    return small.digits_cnn(task="classification", **loaders(TensorDataset(images, labels.float())))


def one_class() -> Pipeline:
    return small.digits_cnn(labels=torch.zeros_like)


def autoencoder_with_dummy_labels() -> Pipeline:
    class Auto(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Linear(8, 64))

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.net(x)
            return out

    def compute_loss(model: nn.Module, batch: Any) -> Tensor:
        return F.mse_loss(model(batch[0]), batch[0].flatten(1))

    return small.digits_cnn(model=Auto, labels=torch.zeros_like, compute_loss=compute_loss, num_classes=None)


def declared_200() -> Pipeline:
    return small.digits_cnn(num_classes=200)


def head_of_4() -> Pipeline:
    return small.digits_cnn(model=lambda: small_head(4), num_classes=None, **loaders(_tensors(512)))


def head_of_1000() -> Pipeline:
    return small.digits_cnn(model=lambda: small_head(1000), num_classes=None, **loaders(_tensors(512)))


def _tensors(n: int) -> Dataset[Any]:
    return TensorDataset(*(part[:n] for part in small.digits_tensors()))


def train_lacks_nine() -> Pipeline:
    images, labels = (part[:512] for part in small.digits_tensors())
    keep = labels != 9
    return small.digits_cnn(
        **loaders(TensorDataset(images[keep], labels[keep]), Subset(_tensors(900), range(600, 900)))
    )


def imbalanced(ratio: int, **fields: Any) -> Pipeline:
    images, labels = small.digits_tensors()
    rows = torch.cat([(labels == 0).nonzero()[: 3 * ratio], (labels == 1).nonzero()[:3]]).flatten()
    many = rows.repeat_interleave(torch.tensor([3] * (len(rows) - 3) + [1] * 3))
    noisy = images[many] + 0.01 * torch.randn(len(many), 1, 8, 8)
    data = DataLoader(TensorDataset(noisy, labels[many]), batch_size=32, shuffle=True)
    return small.digits_cnn(model=lambda: small_head(2), train=data, val=None, num_classes=2, **fields)


def heavily_imbalanced() -> Pipeline:
    return imbalanced(40)


def heavily_imbalanced_weighted() -> Pipeline:
    return imbalanced(40, loss=nn.CrossEntropyLoss(weight=torch.tensor([1.0, 100.0])))


def mildly_imbalanced() -> Pipeline:
    return imbalanced(4)


def leaking() -> Pipeline:
    images, labels = small.digits_tensors()
    return small.digits_cnn(
        **loaders(TensorDataset(images[:600], labels[:600]), TensorDataset(images[500:800], labels[500:800]))
    )


def leaking_behind_augmentation() -> Pipeline:
    data = small.Images(*small.digits_tensors(), small.shifted)
    return small.digits_cnn(
        **loaders(Subset(data, range(600)), Subset(data, range(500, 800))), intents=("augmented-validation",)
    )


def val_not_normalised() -> Pipeline:
    return small.digits_cnn(transform=lambda x: (x - 0.3) / 0.38)


def val_not_normalised_and_augmented() -> Pipeline:
    return small.digits_cnn(transform=lambda x: (small.shifted(x) - 0.5) / 0.25)


def val_in_bytes() -> Pipeline:
    return small.digits_cnn(val_images=lambda x: x * 255)


def erased(image: Tensor) -> Tensor:
    """Random erasing, brightness and contrast: heavy, and usual."""
    image = image.clone() * (0.6 + 0.8 * torch.rand(1)) + 0.2 * torch.rand(1)
    top, left = (int(v) for v in torch.randint(0, 4, (2,)))
    image[:, top : top + 4, left : left + 4] = 0
    return image


def heavily_augmented() -> Pipeline:
    return small.digits_cnn(transform=erased)


def augmented_val() -> Pipeline:
    data = small.Images(*small.digits_tensors(), small.shifted)
    return small.digits_cnn(**loaders(Subset(data, range(600)), Subset(data, range(600, 900))))


def declared_12() -> Pipeline:
    return small.digits_cnn(model=lambda: small_head(12), num_classes=12, **loaders(_tensors(512)))


def double_inputs() -> Pipeline:
    return small.digits_cnn(images=lambda x: x.double())


class OtherDevice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = small.cnn()

    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"
        )


def other_device() -> Pipeline:
    return small.digits_cnn(model=OtherDevice)


def wrong_features() -> Pipeline:
    def net() -> nn.Module:
        model = small.cnn()
        model[-1] = nn.Linear(128, 10)
        return model

    return small.digits_cnn(model=net)


def rgb(images: Tensor) -> Tensor:
    return images.expand(-1, 3, -1, -1).contiguous()


def rgb_net() -> nn.Module:
    net = small.cnn()
    net[0] = nn.Conv2d(3, 8, 3, padding=1)
    return net


def rgb_images() -> Pipeline:
    return small.digits_cnn(model=rgb_net, images=rgb)


def channels_last() -> Pipeline:
    return small.digits_cnn(model=rgb_net, images=lambda x: rgb(x).permute(0, 2, 3, 1))


def rows_taken_for_channels() -> Pipeline:
    def net() -> nn.Module:
        return nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 24, 10))

    return small.digits_cnn(model=net, images=lambda x: rgb(x).permute(0, 2, 3, 1))


def permuted_inside() -> Pipeline:
    class Permutes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = rgb_net()

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.net(x.permute(0, 3, 1, 2))
            return out

    return small.digits_cnn(model=Permutes, images=lambda x: rgb(x).permute(0, 2, 3, 1))


def ignores_all() -> Pipeline:
    return small.digits_cnn(labels=lambda y: torch.full_like(y, -100))


def ignores_one_batch() -> Pipeline:
    def hide(y: Tensor) -> Tensor:
        y = y.clone()
        y[64:96] = -100
        return y

    return small.digits_cnn(labels=hide, shuffle=False)


def percentages() -> Pipeline:
    images, digits = small.digits_tensors()
    y = (digits > 4).float().unsqueeze(1) * 100
    return small.digits_cnn(
        model=lambda: small_head(1), loss=nn.BCEWithLogitsLoss(), num_classes=None, **loaders(TensorDataset(images, y))
    )


def percentages_into_bce() -> Pipeline:
    def net() -> nn.Module:
        return nn.Sequential(small_head(1), nn.Sigmoid())

    images, digits = small.digits_tensors()
    y = (digits > 4).float().unsqueeze(1) * 100
    return small.digits_cnn(model=net, loss=nn.BCELoss(), num_classes=None, **loaders(TensorDataset(images, y)))


def kl_on_probabilities(log: bool) -> Pipeline:
    def compute_loss(model: nn.Module, batch: Any) -> Tensor:
        target = F.one_hot(batch[1], 10).float() * 0.9 + 0.01
        scores = model(batch[0])
        scores = scores.log_softmax(1) if log else scores.softmax(1)
        return F.kl_div(scores, target, reduction="batchmean")

    return small.digits_cnn(compute_loss=compute_loss)


def kl_wrong() -> Pipeline:
    return kl_on_probabilities(log=False)


def kl_right() -> Pipeline:
    return kl_on_probabilities(log=True)


Build = Callable[[], Pipeline]
FAULTS: list[tuple[str, Build, Build]] = [
    ("empty-loader", drops_everything, small.plain_cnn),
    ("empty-loader", drops_much, small.tabular_mlp),
    ("unreadable-sample", unreadable, small.plain_cnn),
    ("nonfinite-inputs", nan_inputs, small.plain_cnn),
    ("constant-inputs", blank, small.plain_cnn),
    ("repeated-samples", repeated, drawn_from_few),
    ("duplicate-samples", doubled, drawn_from_few),
    ("labels-out-of-range", from_one, from_one_then_shifted),
    ("labels-out-of-range", minus_one, minus_one_ignored),
    ("label-dtype-mismatch", float_labels, small.plain_cnn),
    ("constant-labels", one_class, autoencoder_with_dummy_labels),
    ("num-classes-mismatch", declared_200, small.plain_cnn),
    ("num-classes-mismatch", head_of_4, head_of_1000),
    ("missing-classes", train_lacks_nine, small.plain_cnn),
    ("class-imbalance", heavily_imbalanced, heavily_imbalanced_weighted),
    ("unshuffled-training-data", sorted_digits, sequential_digits),
    ("train-val-leakage", leaking, small.discrete_table),
    ("train-val-leakage", leaking_behind_augmentation, small.fine_tuning),
    ("train-val-preprocessing-mismatch", val_not_normalised, small.plain_cnn),
    ("train-val-preprocessing-mismatch", val_not_normalised_and_augmented, heavily_augmented),
    ("train-val-preprocessing-mismatch", val_in_bytes, small.digits_augmented),
    ("augmentation-on-validation", augmented_val, small.digits_augmented),
    ("incomplete-dataset", declared_12, small.plain_cnn),
    ("input-dtype-mismatch", double_inputs, small.plain_cnn),
    ("device-mismatch", other_device, small.plain_cnn),
    ("forward-shape-mismatch", wrong_features, small.plain_cnn),
    ("channels-last-input", channels_last, rgb_images),
    ("channels-last-input", rows_taken_for_channels, permuted_inside),
    ("all-targets-ignored", ignores_all, small.segmentation),
    ("all-targets-ignored", ignores_one_batch, minus_one_ignored),
    ("target-outside-loss-domain", percentages, small.tabular_mlp),
    ("target-outside-loss-domain", percentages_into_bce, small.tabular_mlp),
    ("target-outside-loss-domain", kl_wrong, kl_right),
]


@pytest.mark.parametrize(("name", "faulty"), [(n, f) for n, f, _ in FAULTS], ids=lambda x: getattr(x, "__name__", x))
@pytest.mark.parametrize("seed", range(2))
def test_finds_its_fault(name: str, faulty: Build, seed: int) -> None:
    judged = judge(name, faulty, seed)
    assert judged.names, judged.result.reason
    assert set(judged.names) == {name}
    assert judged.status is Status.FAIL


@pytest.mark.parametrize(("name", "healthy"), [(n, h) for n, _, h in FAULTS], ids=lambda x: getattr(x, "__name__", x))
@pytest.mark.parametrize("seed", range(2))
def test_is_silent_on_the_twin(name: str, healthy: Build, seed: int) -> None:
    judged = judge(name, healthy, seed)
    assert all(finding.severity is Severity.NOTE for finding in judged.findings), judged.result
    assert judged.status in {Status.PASS, Status.SKIPPED}, judged.result
    assert judged.result.reason


def test_names_off_by_one() -> None:
    judged = judge("labels-out-of-range", from_one)
    assert "off by one" in judged.values["hint"]
    assert (judged.values["low"], judged.values["high"], judged.values["classes"]) == (1, 10, 10)


def test_a_missing_value_that_the_model_fills_is_a_note() -> None:
    judged = judge("nonfinite-inputs", nan_handled)
    assert [finding.severity for finding in judged.findings] == [Severity.NOTE] * 2


def test_mild_imbalance_is_a_note() -> None:
    judged = judge("class-imbalance", mildly_imbalanced)
    assert [finding.severity for finding in judged.findings] == [Severity.NOTE]


def test_leakage_counts_the_shared_samples() -> None:
    assert judge("train-val-leakage", leaking).values["overlap"] == 100
    assert judge("train-val-leakage", leaking_behind_augmentation).values["overlap"] == 100


def test_a_failure_names_the_module_that_ran() -> None:
    finding = judge("forward-shape-mismatch", wrong_features).findings[0]
    assert "9 (Linear)" in finding.values["module"]


def test_an_unreadable_sample_tells_how_far_reading_came() -> None:
    assert judge("unreadable-sample", unreadable).values["seen"] == 96
