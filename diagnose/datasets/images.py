"""Data sets of tensors, of image files and of pure noise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset


class TensorImages(Dataset[tuple[Tensor, int]]):
    """``images`` uint8 (N, C, H, W), given out as float32 in [0, 1], with ``labels`` int64 (N,)."""

    def __init__(self, images: Tensor, labels: Tensor, classes: Sequence[str]) -> None:
        self.images = images
        self.labels = labels
        self.classes = list(classes)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index].float() / 255.0, int(self.labels[index])


class ImageFiles(Dataset[tuple[Tensor, int]]):
    """RGB images of files, resized where they are not ``size`` pixels a side: float32 (3, size, size) in [0, 1]."""

    def __init__(self, files: Sequence[tuple[str, int]], classes: Sequence[str], size: int = 64) -> None:
        self.files = list(files)
        self.classes = list(classes)
        self.size = size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        import numpy as np
        from PIL import Image

        path, label = self.files[index]
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        if image.size != (self.size, self.size):
            image = image.resize((self.size, self.size), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(image, dtype=np.uint8))
        return pixels.permute(2, 0, 1).float() / 255.0, label


class FakeImages(Dataset[tuple[Tensor, int]]):
    """Noise drawn from the index alone; its labels can be memorised, and nothing can be learnt from it."""

    def __init__(self, shape: Sequence[int], num_classes: int, samples: int, split: int = 0) -> None:
        self.shape = tuple(shape)
        self.classes = [f"class {index}" for index in range(num_classes)]
        self.samples = samples
        self.split = split

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if not -self.samples <= index < self.samples:
            raise IndexError(f"sample {index} of {self.samples}")
        index %= self.samples
        generator = torch.Generator().manual_seed(2 * index + self.split)
        return torch.rand(self.shape, generator=generator), index % len(self.classes)


def image_paths(folder: Path) -> list[Path]:
    """The image files directly in ``folder``, sorted."""
    kinds = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".tif", ".tiff"}
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in kinds)
