"""A procedural image set: each class is a glyph of a few strokes, each sample a view of it.

Any number of samples, no files, and hard enough that a network must really learn: position, size, colours, contrast,
shading and noise vary from sample to sample, and only the glyph tells the class.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

TEMPLATE = 96  # pixels per side in which a glyph is drawn once; samples are read from it
GRID = 4  # strokes run between points of a GRID x GRID lattice
STROKES = 4
THICKNESS = 0.055  # half the width of a stroke, as a fraction of the side
SCALE = (0.5, 1.0)  # the glyph's box as a fraction of the image's side
SHEAR = 0.3  # largest sideways shift of the top against the bottom, as a fraction of the glyph
CONTRAST = 0.3  # least distance between the mean brightness of glyph and ground
NOISE = 0.12  # standard deviation per pixel and channel
SHADE = 0.15  # largest brightness change from one side of the image to the other
_DRAWING_SEED = 20_240_229  # the glyphs themselves are the same everywhere and always

_FloatArray = np.ndarray[Any, np.dtype[np.float32]]


class Glyphs(Dataset[tuple[Tensor, int]]):
    """Map-style and lazy: sample ``i`` is drawn from its index alone, so order and workers make no difference.

    Items: float32 (3, size, size) in [0, 1] and the label ``i % num_classes``. ``split``: 0 train, 1 val.
    """

    def __init__(self, num_classes: int = 200, size: int = 64, samples: int = 100_000, split: int = 0) -> None:
        self.num_classes = num_classes
        self.size = size
        self.samples = samples
        self.split = split
        self.classes = [f"glyph {index:03d}" for index in range(num_classes)]
        self._templates: _FloatArray | None = None

    def __len__(self) -> int:
        return self.samples

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_templates": None}  # quicker drawn again than sent to a worker

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if not -self.samples <= index < self.samples:
            raise IndexError(f"sample {index} of {self.samples}")
        index %= self.samples
        if self._templates is None:
            self._templates = draw_templates(self.num_classes)
        label = index % self.num_classes
        generator = np.random.Generator(np.random.SFC64((self.split, index)))
        return torch.from_numpy(_view(self._templates[label], self.size, generator)), label


def _view(template: _FloatArray, size: int, generator: np.random.Generator) -> _FloatArray:
    """One view of a glyph: float32 (3, size, size)."""
    scale_x, scale_y, shift_x, shift_y, shear, _, shade_x, shade_y = generator.random(8)
    rows = _positions(size, scale_y, shift_y)
    slant = (2.0 * shear - 1.0) * SHEAR * (rows - 0.5)
    columns = _positions(size, scale_x, shift_x) + slant[:, None]
    ink = template[_pixels(rows)[:, None], _pixels(columns)]
    ground, glyph = _colours(generator)
    ramp = np.linspace(-SHADE, SHADE, size, dtype=np.float32)
    shading = ramp * np.float32(shade_x - 0.5) + ramp[:, None] * np.float32(shade_y - 0.5)
    image = generator.standard_normal((3, size, size), dtype=np.float32)
    image *= np.float32(NOISE)
    image += ink * (glyph - ground)[:, None, None]
    image += ground[:, None, None] + shading
    return np.clip(image, 0.0, 1.0, out=image)


def _positions(size: int, scale: float, shift: float) -> Any:
    """Where each pixel along one axis lies in the glyph, whose sides are 0 and 1: float64 (size,)."""
    extent = SCALE[0] + (SCALE[1] - SCALE[0]) * scale
    start = (1.0 - extent) * shift
    return ((np.arange(size) + 0.5) / size - start) / extent


def _pixels(positions: Any) -> Any:
    """Template indices; what lies outside the glyph reads its empty rim."""
    return np.clip(positions * TEMPLATE, 0, TEMPLATE - 1).astype(np.intp)


def _colours(generator: np.random.Generator) -> tuple[_FloatArray, _FloatArray]:
    """Ground and glyph colour, (3,) each; the glyph is brighter by at least CONTRAST."""
    tints = generator.uniform(-0.15, 0.15, (2, 3)).astype(np.float32)
    tints -= tints.mean(1, keepdims=True)
    low = generator.uniform(0.15, 0.45)
    high = low + CONTRAST + generator.uniform(0.0, 0.25)
    return tints[0] + np.float32(low), tints[1] + np.float32(high)


def draw_templates(num_classes: int) -> _FloatArray:
    """Ink of each glyph, float32 (num_classes, TEMPLATE, TEMPLATE) in [0, 1] with an empty rim."""
    generator = np.random.default_rng(_DRAWING_SEED)
    axis = (np.arange(TEMPLATE, dtype=np.float32) + 0.5) / TEMPLATE
    pixels = np.stack(np.meshgrid(axis, axis), axis=-1).astype(np.float32)
    seen: set[tuple[tuple[int, int], ...]] = set()
    templates = np.zeros((num_classes, TEMPLATE, TEMPLATE), dtype=np.float32)
    for template in templates:
        strokes = _strokes(generator)
        while strokes in seen:
            strokes = _strokes(generator)
        seen.add(strokes)
        for start, end in strokes:
            np.maximum(template, _stroke(pixels, _point(start), _point(end)), out=template)
    templates[:, [0, -1], :] = 0.0
    templates[:, :, [0, -1]] = 0.0
    return templates


def _strokes(generator: np.random.Generator) -> tuple[tuple[int, int], ...]:
    """Pairs of lattice points; each stroke but the first starts where an earlier one ended, as in writing."""
    chosen: set[tuple[int, int]] = set()
    start = int(generator.integers(GRID * GRID))
    while len(chosen) < STROKES:
        end = int(generator.integers(GRID * GRID))
        if end != start:
            chosen.add((min(start, end), max(start, end)))
            start = end
    return tuple(sorted(chosen))


def _point(index: int) -> _FloatArray:
    return np.array([0.12 + 0.76 * (index % GRID) / (GRID - 1), 0.12 + 0.76 * (index // GRID) / (GRID - 1)], np.float32)


def _stroke(pixels: _FloatArray, start: _FloatArray, end: _FloatArray) -> _FloatArray:
    """Ink of one stroke with soft edges."""
    direction = end - start
    along = np.clip(((pixels - start) @ direction) / (direction @ direction), 0.0, 1.0)
    distance = np.linalg.norm(pixels - (start + along[..., None] * direction), axis=-1)
    ink: _FloatArray = np.clip((1.5 * THICKNESS - distance) / (0.5 * THICKNESS), 0.0, 1.0).astype(np.float32)
    return ink
