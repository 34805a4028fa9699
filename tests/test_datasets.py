"""The data that come by name, on real or tiny files."""

from __future__ import annotations

import pickle
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets.mnist import MNIST

from diagnose.datasets import builtin_loaders, is_builtin, reference_data
from diagnose.datasets.glyphs import Glyphs
from diagnose.errors import UsageError


def save(path: Path, colour: tuple[int, int, int], side: int = 64) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side), colour).save(path)


def idx(path: Path, array: np.ndarray) -> None:  # type: ignore[type-arg]
    """The file format of MNIST."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.fixture
def tiny_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    raw = tmp_path / "MNIST" / "raw"
    for name, count in (("train", 6), ("t10k", 4)):
        idx(raw / f"{name}-images-idx3-ubyte", np.full((count, 28, 28), 255))
        idx(raw / f"{name}-labels-idx1-ubyte", np.arange(count))
    monkeypatch.setenv("DIAGNOSE_DATA", str(tmp_path))
    return tmp_path


def test_digits() -> None:
    loaders = builtin_loaders("digits", batch_size=32, seed=1)
    images, labels = next(iter(loaders["train"]))
    assert images.shape == (32, 1, 8, 8)
    assert images.dtype == torch.float32
    assert 0 <= images.min() < images.max() <= 1
    assert labels.dtype == torch.int64
    assert loaders["num_classes"] == 10
    assert len(loaders["train"].dataset) + len(loaders["val"].dataset) == 1797
    assert len(loaders["val"].dataset) == 359


def test_the_seed_decides_the_order() -> None:
    first, again, other = (next(iter(builtin_loaders("digits", seed=seed)["train"]))[1] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_glyphs_are_drawn_from_their_index_alone() -> None:
    glyphs, again = Glyphs(200, 32, 1000), pickle.loads(pickle.dumps(Glyphs(200, 32, 1000)))
    image, label = glyphs[417]
    assert image.shape == (3, 32, 32)
    assert image.dtype == torch.float32
    assert 0 <= image.min() < image.max() <= 1
    assert label == 17
    assert torch.equal(image, again[417][0])
    assert not torch.equal(image, glyphs[617][0])  # the same class, another view
    assert not torch.equal(image, Glyphs(200, 32, 1000, split=1)[417][0])
    assert len(list(glyphs)) == 1000  # ends with IndexError, as a sequence must


def test_glyphs_are_quick() -> None:
    glyphs = Glyphs(200, 32)
    glyphs[0]
    best = min(_seconds(glyphs, 50) for _ in range(10))
    assert best / 50 < 0.003  # ten times what it takes on an idle core, for busy ones


def _seconds(glyphs: Glyphs, count: int) -> float:
    start = time.perf_counter()
    for index in range(count):
        glyphs[index]
    return time.perf_counter() - start


def test_glyph_classes_differ_and_can_be_told_apart() -> None:
    """Nearest class mean on ink alone is far above chance, and far from perfect: learnable, not trivial."""
    train, val = Glyphs(20, 32, 800), Glyphs(20, 32, 200, split=1)
    means = torch.zeros(20, 32 * 32)
    for index in range(800):
        means[index % 20] += _ink(train[index][0]) / 40
    hits = [int((means @ _ink(val[i][0])).argmax() == i % 20) for i in range(200)]
    assert 0.3 < sum(hits) / 200 < 0.98


def _ink(image: torch.Tensor) -> torch.Tensor:
    grey = image.mean(0).flatten()
    ink = (grey - grey.median()).abs()
    return (ink - ink.mean()) / ink.std()


@pytest.mark.parametrize(
    ("name", "shape", "count"), [("glyphs-200:16:40", (3, 16, 16), 40), ("glyphs-7", (3, 64, 64), 100_000)]
)
def test_glyphs_by_name(name: str, shape: tuple[int, ...], count: int) -> None:
    loaders = builtin_loaders(name, batch_size=4)
    assert len(loaders["train"].dataset) == count
    assert len(loaders["val"].dataset) == count // 10
    assert next(iter(loaders["train"]))[0].shape == (4, *shape)
    assert loaders["num_classes"] == len(loaders["class_names"])


def test_fake() -> None:
    loaders = builtin_loaders("fake:3x8x6:5", batch_size=10)
    images, labels = next(iter(loaders["val"]))
    assert images.shape == (10, 3, 8, 6)
    assert labels.tolist() == [0, 1, 2, 3, 4] * 2
    assert torch.equal(images, next(iter(loaders["val"]))[0])


def test_imagefolder(tmp_path: Path) -> None:
    for split, side in (("train", 64), ("val", 80)):
        save(tmp_path / split / "b_red" / "1.png", (255, 0, 0), side)
        save(tmp_path / split / "a_blue" / "1.png", (0, 0, 255), side)
    loaders = builtin_loaders(f"imagefolder:{tmp_path}", batch_size=2)
    assert loaders["class_names"] == ["a_blue", "b_red"]
    images, labels = next(iter(loaders["val"]))
    assert images.shape == (2, 3, 64, 64)
    assert labels.tolist() == [0, 1]
    assert images[1, :, 3, 3].tolist() == [1.0, 0.0, 0.0]


def test_tiny_imagenet_reads_val_labels_from_the_annotations(tmp_path: Path) -> None:
    for wnid in ("n02", "n01"):
        save(tmp_path / "train" / wnid / "images" / f"{wnid}_0.JPEG", (9, 9, 9))
    for index, shade in enumerate((10, 200, 90)):
        save(tmp_path / "val" / "images" / f"val_{index}.JPEG", (shade, shade, shade))
    rows = "".join(f"val_{i}.JPEG\t{w}\t0\t0\t62\t62\n" for i, w in enumerate(("n02", "n01", "n02")))
    (tmp_path / "val" / "val_annotations.txt").write_text(rows)
    (tmp_path / "words.txt").write_text("n01\tgoldfish, Carassius auratus\nn02\tbullfrog\n")
    loaders = builtin_loaders(f"tiny-imagenet:{tmp_path}", batch_size=3)
    images, labels = next(iter(loaders["val"]))
    assert loaders["class_names"] == ["goldfish", "bullfrog"]
    assert labels.tolist() == [1, 0, 1]
    assert [round(float(image.mean()) * 255) for image in images] == [10, 200, 90]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("digts", "Did you mean digits?"),
        ("digits:3", "expected digits alone"),
        ("imagefolder", "expected imagefolder:DIR"),
        ("imagefolder:nowhere", "there is no folder nowhere"),
        ("tiny-imagenet:nowhere", "expected train/<wnid>/images/"),
        ("fake:3x0x3:1", "expected fake:CxHxW:CLASSES"),
        ("glyphs-200:a", r"expected glyphs-200\[:SIZE"),
    ],
)
def test_names_that_do_not_fit(name: str, expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        builtin_loaders(name)


def test_which_names_are_ours() -> None:
    assert all(is_builtin(name) for name in ("digits", "glyphs-200:32", "imagefolder:data", "fake:3x8x8:2"))
    assert not any(is_builtin(name) for name in ("mnist:get_loaders", "fake:loaders", "a.b:c", "data.py:get"))


def test_mnist_on_disk(tiny_mnist: Path) -> None:
    loaders = builtin_loaders("mnist", batch_size=4)
    images, labels = next(iter(loaders["val"]))
    assert images.shape == (4, 1, 28, 28)
    assert images.max() == 1
    assert labels.tolist() == [0, 1, 2, 3]
    data = reference_data("mnist", limit=5)
    assert data.images.shape == (5, 1, 28, 28)
    assert data.val_images.shape == (4, 1, 28, 28)
    assert data.source == "MNIST"


def test_nothing_is_downloaded_unless_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIAGNOSE_DATA", str(tmp_path))
    monkeypatch.setattr(MNIST, "download", lambda self: pytest.fail("downloaded"))
    for name in ("mnist", "cifar10"):
        with pytest.raises(UsageError, match="--download"):
            builtin_loaders(name)
    data = reference_data("mnist")
    assert data.source.startswith("bundled digits")
    assert "--download" in data.source
    assert data.images.shape == (1438, 1, 8, 8)
    assert list(tmp_path.iterdir()) == []


def test_cifar10_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision.datasets

    class Small:
        classes = ("plane", "car")

        def __init__(self, root: str, train: bool, download: bool) -> None:
            assert (root, download) == (str(tmp_path), False)
            self.data = np.full((3, 32, 32, 3), (255, 0, 51), dtype=np.uint8)
            self.targets = [0, 1, 0]

    monkeypatch.setenv("DIAGNOSE_DATA", str(tmp_path))
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Small)
    loaders = builtin_loaders("cifar10", batch_size=3)
    images, labels = next(iter(loaders["val"]))
    assert images[0, :, 0, 0].tolist() == pytest.approx([1.0, 0.0, 0.2])
    assert labels.tolist() == [0, 1, 0]
    assert loaders["class_names"] == ["plane", "car"]
