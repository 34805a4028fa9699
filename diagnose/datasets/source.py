"""Where the built-in data come from, and how each is divided into train and val."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from diagnose.datasets.glyphs import Glyphs
from diagnose.datasets.images import FakeImages, ImageFiles, TensorImages, image_paths
from diagnose.errors import UsageError

GLYPHS_TRAIN, GLYPHS_VAL = 100_000, 10_000
FAKE_TRAIN, FAKE_VAL = 1_000, 200
DIGITS_VAL = 0.2  # fraction of the bundled digits
_SPLIT_SEED = 0


@dataclass(frozen=True)
class Splits:
    train: Dataset[Any]
    val: Dataset[Any]
    class_names: Sequence[str]


def data_root() -> Path:
    """The folder of downloaded data: ``$DIAGNOSE_DATA``, else ``data`` in the current folder."""
    return Path(os.environ.get("DIAGNOSE_DATA") or "data")


def digits() -> Splits:
    """The 1,797 handwritten digits that come with scikit-learn, (1, 8, 8), divided 80/20, always the same way."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.from_numpy(bunch.images).mul(255.0 / 16.0).round().to(torch.uint8).unsqueeze(1)
    labels = torch.from_numpy(bunch.target).long()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(_SPLIT_SEED))
    held_out = int(len(labels) * DIGITS_VAL)
    names = [str(digit) for digit in range(10)]
    val, train = order[:held_out], order[held_out:]
    return Splits(
        TensorImages(images[train], labels[train], names), TensorImages(images[val], labels[val], names), names
    )


def mnist(download: bool) -> Splits:
    from torchvision.datasets import MNIST

    return _downloaded(MNIST, "mnist", download, [str(digit) for digit in range(10)])


def cifar10(download: bool) -> Splits:
    from torchvision.datasets import CIFAR10

    return _downloaded(CIFAR10, "cifar10", download, None)


def _downloaded(kind: Any, name: str, download: bool, names: Sequence[str] | None) -> Splits:
    """Raises UsageError where the files are not there, or could not be downloaded."""
    root = data_root()
    try:
        with warnings.catch_warnings():  # CIFAR's pickles use an old numpy dtype; nothing the user can do about it
            warnings.simplefilter("ignore")
            sets = [kind(str(root), train=is_train, download=download) for is_train in (True, False)]
    except (RuntimeError, OSError) as error:
        tried = f" The download failed: {error}." if download else " Add --download to fetch it."
        raise UsageError(f"--data {name}: it is not in {root} (set DIAGNOSE_DATA to another folder).{tried}") from error
    names = names or [str(label) for label in sets[0].classes]
    train, val = (TensorImages(_as_images(one.data), torch.as_tensor(one.targets).long(), names) for one in sets)
    return Splits(train, val, names)


def _as_images(data: Any) -> Tensor:
    """uint8 (N, C, H, W) of MNIST's (N, H, W) tensor or CIFAR's (N, H, W, C) array."""
    images = torch.as_tensor(data)
    return images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()


def glyphs(num_classes: int, size: int = 64, samples: int | None = None) -> Splits:
    """``samples``: of the training set; validation has a tenth of that."""
    train = samples or GLYPHS_TRAIN
    val = GLYPHS_VAL if samples is None else max(1, samples // 10)
    splits = [Glyphs(num_classes, size, count, split) for split, count in enumerate((train, val))]
    return Splits(splits[0], splits[1], splits[0].classes)


def fake(shape: tuple[int, ...], num_classes: int) -> Splits:
    train = FakeImages(shape, num_classes, FAKE_TRAIN)
    return Splits(train, FakeImages(shape, num_classes, FAKE_VAL, split=1), train.classes)


def image_folder(folder: str) -> Splits:
    """``DIR/train/<class>/*`` and ``DIR/val/<class>/*``. Raises UsageError where the folder is laid out differently."""
    root = _existing(folder, "imagefolder", "train/<class>/ and val/<class>/ with images")
    classes = sorted(path.name for path in (root / "train").iterdir() if path.is_dir())
    index = {name: position for position, name in enumerate(classes)}
    if unknown := sorted(path.name for path in (root / "val").iterdir() if path.is_dir() and path.name not in index):
        raise UsageError(f"--data imagefolder:{folder}: val has classes that train lacks: {', '.join(unknown[:5])}.")
    splits = []
    for split in ("train", "val"):
        inner = [(root / split / name, label) for name, label in index.items() if (root / split / name).is_dir()]
        files = [(str(path), label) for one, label in inner for path in image_paths(one)]
        splits.append(ImageFiles(_some(files, f"imagefolder:{folder}", split), classes))
    return Splits(splits[0], splits[1], classes)


def tiny_imagenet(folder: str) -> Splits:
    """TinyImageNet as distributed: the images of val lie in one folder, their classes in ``val_annotations.txt``."""
    expected = "train/<wnid>/images/, val/images/ and val/val_annotations.txt"
    root = _existing(folder, "tiny-imagenet", expected)
    annotations = root / "val" / "val_annotations.txt"
    if not annotations.is_file():
        raise UsageError(f"--data tiny-imagenet:{folder}: there is no val/val_annotations.txt; expected {expected}.")
    wnids = sorted(path.name for path in (root / "train").iterdir() if (path / "images").is_dir())
    index = {wnid: label for label, wnid in enumerate(wnids)}
    train = [(str(path), index[wnid]) for wnid in wnids for path in image_paths(root / "train" / wnid / "images")]
    rows = [line.split("\t") for line in annotations.read_text(encoding="utf-8").splitlines() if line.strip()]
    if unknown := sorted({row[1] for row in rows if len(row) < 2 or row[1] not in index}):
        raise UsageError(f"--data tiny-imagenet:{folder}: val has classes that train lacks: {', '.join(unknown[:5])}.")
    val = [(str(root / "val" / "images" / row[0]), index[row[1]]) for row in rows]
    names = _words(root, wnids)
    name = f"tiny-imagenet:{folder}"
    return Splits(ImageFiles(_some(train, name, "train"), names), ImageFiles(_some(val, name, "val"), names), names)


def _words(root: Path, wnids: Sequence[str]) -> list[str]:
    """The first word of each class where ``words.txt`` has it, else its id; never the same name twice."""
    words: dict[str, str] = {}
    if (root / "words.txt").is_file():
        for line in (root / "words.txt").read_text(encoding="utf-8").splitlines():
            wnid, _, text = line.partition("\t")
            words[wnid] = text.partition(",")[0].strip()
    names = [words.get(wnid) or wnid for wnid in wnids]
    return [name if names.count(name) == 1 else f"{name} ({wnid})" for name, wnid in zip(names, wnids, strict=True)]


def _existing(folder: str, kind: str, expected: str) -> Path:
    root = Path(folder).expanduser()
    missing = [name for name in ("", "train", "val") if not (root / name).is_dir()]
    if missing:
        what = f"folder {folder}" if missing[0] == "" else f"{missing[0]}/ in {folder}"
        raise UsageError(f"--data {kind}:{folder}: there is no {what}; expected {expected}.")
    return root


def _some(files: list[tuple[str, int]], name: str, split: str) -> list[tuple[str, int]]:
    if not files:
        raise UsageError(f"--data {name}: there are no images in {split}/.")
    return files
