"""Small colour pictures with noise, and the network that takes it out again. Noise is drawn when a picture is read."""

from __future__ import annotations

import functools

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from diagnose import Pipeline
from zoo.cases import cases

SIZE, COUNT, TRAIN = 16, 900, 700


@functools.lru_cache
def clean():
    """(COUNT, 16, 16, 3) bytes: a soft ground with two bright discs."""
    rng = np.random.default_rng(15)
    row, column = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    pictures = []
    for _ in range(COUNT):
        picture = rng.uniform(0.1, 0.4, 3) + rng.uniform(-0.2, 0.4, 3) * row[..., None]
        for _ in range(2):
            r, c, size = rng.uniform(0.2, 0.8, 3) * [1, 1, 0.3]
            inside = (row - r) ** 2 + (column - c) ** 2 < size**2 + 0.01
            picture = np.where(inside[..., None], rng.uniform(0.3, 1, 3), picture)
        pictures.append(picture)
    return (np.stack(pictures).clip(0, 1) * 255).astype(np.uint8)


def chw(picture):
    return torch.from_numpy(picture.astype(np.float32) / 255).permute(2, 0, 1)


class Noisy(Dataset):
    def __init__(self, begin, end, fixed=False, read=chw, level=0.2):
        self.pictures, self.fixed, self.read, self.level = clean()[begin:end], fixed, read, level

    def __len__(self):
        return len(self.pictures)

    def noise(self, i, like):
        g = torch.Generator().manual_seed(i) if self.fixed else None
        return torch.randn(like.shape, generator=g) * self.level

    def __getitem__(self, i):
        picture = self.read(self.pictures[i]).contiguous()
        return picture + self.noise(i, picture), picture


class Denoiser(nn.Module):
    def __init__(self, width=24, residual=True, last=None):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU(),
            nn.Conv2d(width, 3, 3, padding=1),
        )  # fmt: skip
        self.residual, self.last = residual, last or nn.Identity()

    def forward(self, x):
        out = self.body(x)
        return self.last(x - out if self.residual else out)


def make(model=None, train=None, val=None, loss=None, data=Noisy, compute_loss=None):
    model = model or Denoiser()
    return Pipeline(
        model=model,
        train=DataLoader(train or data(0, TRAIN), batch_size=32, shuffle=True),
        val=DataLoader(val or data(TRAIN, COUNT, fixed=True), batch_size=50),
        loss=None if compute_loss else loss or nn.MSELoss(),
        compute_loss=compute_loss,
        optimizer=torch.optim.Adam(model.parameters(), lr=2e-3),
        epochs=6,
    )


def build():
    return make()


# faults


class Aliased(Noisy):
    def __getitem__(self, i):
        picture = self.read(self.pictures[i]).contiguous()
        noisy = picture
        noisy += self.noise(i, picture)
        return noisy, picture


def noise_added_in_place():
    return make(data=Aliased, model=Denoiser(residual=False))


class InBytes(Noisy):
    """The input is scaled, the wanted picture stays in bytes."""

    def __getitem__(self, i):
        noisy, picture = super().__getitem__(i)
        return noisy, picture * 255


def wanted_in_bytes():
    return make(data=InBytes, model=Denoiser(residual=False, last=nn.Sigmoid()))


class Signed(Noisy):
    def __getitem__(self, i):
        noisy, picture = super().__getitem__(i)
        return noisy * 2 - 1, picture * 2 - 1


def sigmoid_for_signed_pictures():
    return make(data=Signed, model=Denoiser(residual=False, last=nn.Sigmoid()))


class Grey(Noisy):
    def __getitem__(self, i):
        noisy, picture = super().__getitem__(i)
        return noisy, picture.mean(0)


class ToGrey(Denoiser):
    def __init__(self, keep=True):
        super().__init__(residual=False)
        self.grey, self.keep = nn.Conv2d(3, 1, 1), keep

    def forward(self, x):
        out = self.grey(super().forward(x))
        return out if self.keep else out.squeeze(1)


def grey_without_its_channel():
    return make(data=Grey, model=ToGrey())


def reshaped_to_channels_first():
    def read(picture):
        return torch.from_numpy(picture.astype(np.float32) / 255).reshape(3, SIZE, SIZE)

    return make(data=functools.partial(Noisy, read=read))


def left_in_doubles():
    def read(picture):
        return torch.from_numpy(picture / 255).permute(2, 0, 1)

    return make(data=functools.partial(Noisy, read=read))


def channels_left_last():
    def read(picture):
        return torch.from_numpy(picture.astype(np.float32) / 255)

    return make(data=functools.partial(Noisy, read=read))


class WithLevel(Noisy):
    def __getitem__(self, i):
        picture = self.read(self.pictures[i]).contiguous()
        level = torch.tensor(0.05 + 0.3 * ((i * 37) % 100) / 100)
        return picture + self.noise(i, picture) / self.level * level, level, picture


class Conditioned(Denoiser):
    def __init__(self, used):
        super().__init__()
        self.gain, self.used = nn.Sequential(nn.Linear(1, 16), nn.ReLU(), nn.Linear(16, 3)), used

    def forward(self, x, level):
        gain = self.gain(level[:, None])[:, :, None, None]
        return x - self.body(x) * (1 + gain) if self.used else x - self.body(x)


def level_passed_in_vain():
    return make(data=WithLevel, model=Conditioned(used=False))


def pixels_weighted_and_not_averaged():
    def loss(output, target):
        weight = 1 + target.mean(1, keepdim=True)
        return weight * F.mse_loss(output, target, reduction="none")

    return make(loss=loss)


def negated_peak_to_noise():
    """PSNR is better when it is higher; it is minimised here."""

    def loss(output, target):
        return -10 * torch.log10(F.mse_loss(output, target))

    return make(loss=loss)


def clamped_to_nothing():
    class Clamped(Denoiser):
        def forward(self, x):
            return (self.body(x) - 3).clamp(0, 1)

    return make(model=Clamped())


def rounded_to_bytes():
    class Rounded(Denoiser):
        def forward(self, x):
            return (super().forward(x).clamp(0, 1) * 255).round() / 255

    return make(model=Rounded())


# healthy


def psnr_as_loss():
    def loss(output, target):
        return 10 * torch.log10(F.mse_loss(output, target))

    return make(loss=loss)


def fresh_noise_in_validation():
    return make(val=Noisy(TRAIN, COUNT))


class Twice(Noisy):
    def __getitem__(self, i):
        picture = self.read(self.pictures[i]).contiguous()
        if self.fixed:
            return picture + self.noise(i, picture), picture
        return picture + self.noise(i, picture), picture + self.noise(i, picture)


def noise_to_noise():
    return make(data=Twice)


class Holes(Noisy):
    def __getitem__(self, i):
        picture = self.read(self.pictures[i]).contiguous()
        g = torch.Generator().manual_seed(i) if self.fixed else None
        keep = (torch.rand(1, 4, 4, generator=g) > 0.4).float().repeat_interleave(4, 1).repeat_interleave(4, 2)
        return picture * keep, keep, picture


class Painter(Denoiser):
    def __init__(self):
        super().__init__(residual=False)
        self.inner = nn.Sequential(
            nn.Conv2d(4, 24, 5, padding=2), nn.ReLU(), nn.Conv2d(24, 24, 5, padding=2), nn.ReLU(), nn.Conv2d(24, 3, 1)
        )
        del self.body

    def forward(self, x, keep):
        return self.inner(torch.cat([x, keep], 1))


def only_the_holes_count():
    def loss(model, batch):
        x, keep, picture = batch
        out = model(x, keep)
        hole = 1 - keep
        return ((out - picture) ** 2 * hole).sum() / (3 * hole.sum()).clamp(min=1), out

    return make(data=Holes, model=Painter(), compute_loss=loss)


def level_used():
    return make(data=WithLevel, model=Conditioned(used=True))


class Shrunk(Noisy):
    def __getitem__(self, i):
        _, picture = super().__getitem__(i)
        return F.avg_pool2d(picture, 2), picture


def super_resolution():
    class Upscale(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 12, 3, padding=1))

        def forward(self, x):
            return F.interpolate(x, scale_factor=2) + F.pixel_shuffle(self.body(x), 2)

    return make(data=Shrunk, model=Upscale(), loss=nn.L1Loss())


CASES = cases(
    build,
    {
        noise_added_in_place: "target-leaked-into-input",
        wanted_in_bytes: ("unscaled-regression-target", "target-outside-loss-domain", "activation-on-logits"),
        sigmoid_for_signed_pictures: ("target-outside-loss-domain", "activation-on-logits"),
        grey_without_its_channel: "target-broadcast",
        reshaped_to_channels_first: "scrambled-image-layout",
        left_in_doubles: "input-dtype-mismatch",
        channels_left_last: ("channels-last-input", "forward-shape-mismatch"),
        level_passed_in_vain: ("ignored-input", "unused-parameters"),
        pixels_weighted_and_not_averaged: "loss-not-scalar",
        negated_peak_to_noise: "loss-sign-flipped",
        clamped_to_nothing: ("zero-gradient", "activation-on-logits", "saturated-activations"),
        rounded_to_bytes: ("zero-gradient", "graph-cut"),
    },
    [
        psnr_as_loss, fresh_noise_in_validation, noise_to_noise, only_the_holes_count, level_used, super_resolution,
    ],
    structural=[noise_added_in_place, level_passed_in_vain],
)  # fmt: skip
