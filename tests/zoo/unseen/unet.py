"""U-Net on drawn shapes: background, disc, box; an unsure rim of 255."""

from __future__ import annotations

import functools

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from diagnose import Pipeline
from zoo.cases import cases

SIDE = 24
RIM = 255


@functools.lru_cache
def scenes(count: int, seed: int):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    images = np.zeros((count, 3, SIDE, SIDE), np.float32)
    masks = np.zeros((count, SIDE, SIDE), np.int64)
    for i in range(count):
        image = rng.normal(0.3, 0.05, (3, 1, 1)) + np.zeros((3, SIDE, SIDE))
        mask = np.zeros((SIDE, SIDE), np.int64)
        cy, cx, r = rng.uniform(7, 17), rng.uniform(7, 17), rng.uniform(3, 6)
        distance = np.hypot(y - cy, x - cx)
        disc = distance < r
        image[:, disc] = rng.uniform(0.5, 0.7, 3)[:, None]
        mask[disc] = 1
        top, left = rng.integers(1, 13, 2)
        h, w = rng.integers(5, 9, 2)
        image[:, top : top + h, left : left + w] = rng.uniform(0.75, 1.0, 3)[:, None, None]
        mask[top : top + h, left : left + w] = 2
        rim = np.abs(distance - r) < 0.7
        mask[rim] = RIM
        images[i] = image + rng.normal(0, 0.05, image.shape)
        masks[i] = mask
    return (images - 0.5) / 0.25, masks


class Scenes(Dataset):
    def __init__(self, count, seed):
        self.images, self.masks = scenes(count, seed)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return {"image": torch.from_numpy(self.images[i]), "mask": torch.from_numpy(self.masks[i])}


def conv(cin, cout):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True))


class UNet(nn.Module):
    def __init__(self, width=6, classes=3):
        super().__init__()
        self.down1 = conv(3, width)
        self.down2 = conv(width, 2 * width)
        self.bottom = conv(2 * width, 4 * width)
        self.up2 = conv(6 * width, 2 * width)
        self.up1 = conv(3 * width, width)
        self.head = nn.Conv2d(width, classes, 1)

    def encode(self, x):
        a = self.down1(x)
        b = self.down2(F.max_pool2d(a, 2))
        return a, b, self.bottom(F.max_pool2d(b, 2))

    def decode(self, a, b, c):
        b = self.up2(torch.cat([b, F.interpolate(c, scale_factor=2)], 1))
        return self.up1(torch.cat([a, F.interpolate(b, scale_factor=2)], 1))

    def forward(self, x):
        return self.head(self.decode(*self.encode(x)))


def make(model=None, criterion=None, train=None, val=None, optimizer=None, batch=16, compute_loss=None):
    model = model if model is not None else UNet()
    criterion = criterion or nn.CrossEntropyLoss(ignore_index=RIM)

    def loss_of_batch(model, batch):
        output = model(batch["image"])
        return criterion(output, batch["mask"]), output

    return Pipeline(
        model=model,
        train=DataLoader(train or Scenes(800, 0), batch_size=batch, shuffle=True, drop_last=True),
        val=DataLoader(val or Scenes(160, 1), batch_size=32),
        optimizer=optimizer(model) if optimizer else torch.optim.Adam(model.parameters(), lr=3e-3),
        compute_loss=compute_loss or loss_of_batch,
        task="segmentation",
        num_classes=3,
        epochs=5,
    )


def base():
    return make()


# faults


def rim_is_no_class():
    return make(criterion=nn.CrossEntropyLoss())


def background_is_ignored():
    class Clean(Scenes):
        def __init__(self, count, seed):
            super().__init__(count, seed)
            self.masks = np.where(self.masks == RIM, 0, self.masks)

    return make(criterion=nn.CrossEntropyLoss(ignore_index=0), train=Clean(800, 0), val=Clean(160, 1))


def mask_of_a_channel():
    """Masks keep the channel dimension that the image library gives them."""

    class Channel(Scenes):
        def __getitem__(self, i):
            item = super().__getitem__(i)
            return {**item, "mask": item["mask"].unsqueeze(0)}

    return make(train=Channel(800, 0), val=Channel(160, 1))


def decoder_sees_a_copy():
    class Model(UNet):
        def forward(self, x):
            a, b, c = (t.detach() for t in self.encode(x))
            return self.head(self.decode(a, b, c))

    return make(Model())


def levels_in_a_dict():
    class Model(UNet):
        def __init__(self):
            super().__init__()
            del self.down1, self.down2, self.bottom
            self.levels = {"down1": conv(3, 6), "down2": conv(6, 12), "bottom": conv(12, 24)}

        def encode(self, x):
            a = self.levels["down1"](x)
            b = self.levels["down2"](F.max_pool2d(a, 2))
            return a, b, self.levels["bottom"](F.max_pool2d(b, 2))

    return make(Model())


def decoder_forgets_its_last_block():
    class Model(UNet):
        def __init__(self):
            super().__init__()
            self.refine = nn.Sequential(conv(6, 6), conv(6, 6))

    return make(Model())


def picture_divided_by_its_sum():
    class Model(UNet):
        def forward(self, x):
            x = x.clamp_min(1.0) - 1.0  # only what is bright
            return super().forward(x / x.sum(dim=(1, 2, 3), keepdim=True) * x[0].numel())

    class Dark(Scenes):
        def __init__(self, count, seed):
            super().__init__(count, seed)
            self.images = self.images.copy()
            self.images[::7] = self.images[::7].clip(max=0.9)

    return make(Model(), train=Dark(800, 0), val=Dark(160, 1))


def classes_on_the_last_axis():
    class Model(UNet):
        def forward(self, x):
            return super().forward(x).permute(0, 2, 3, 1)

    def loss_of_batch(model, batch):
        output = model(batch["image"])
        output = output.reshape(output.shape[0], 3, SIDE, SIDE)
        return F.cross_entropy(output, batch["mask"], ignore_index=RIM), output

    return make(Model(), compute_loss=loss_of_batch)


def sigmoid_and_cross_entropy():
    class Model(UNet):
        def forward(self, x):
            return torch.sigmoid(super().forward(x))

    return make(Model())


def masks_of_another_picture():
    class Misaligned(Scenes):
        def __init__(self, count, seed):
            super().__init__(count, seed)
            self.masks = np.roll(self.masks, 1, axis=0)

    return make(train=Misaligned(800, 0))


def mask_flipped_alone():
    """A flip of the picture is not applied to its mask."""

    class Flipped(Scenes):
        def __getitem__(self, i):
            item = super().__getitem__(i)
            return {**item, "image": item["image"].flip(-1)}

    return make(train=Flipped(800, 0))


# healthy


def auxiliary_output():
    class Model(UNet):
        def __init__(self):
            super().__init__()
            self.auxiliary = nn.Conv2d(24, 3, 1)

        def forward(self, x):
            a, b, c = self.encode(x)
            out = self.head(self.decode(a, b, c))
            return (out, F.interpolate(self.auxiliary(c), scale_factor=4)) if self.training else out

    def loss_of_batch(model, batch):
        output = model(batch["image"])
        if isinstance(output, tuple):
            main, auxiliary = (F.cross_entropy(o, batch["mask"], ignore_index=RIM) for o in output)
            return main + 0.4 * auxiliary, output[0]
        return F.cross_entropy(output, batch["mask"], ignore_index=RIM), output

    return make(Model(), compute_loss=loss_of_batch)


def weighted_classes():
    return make(criterion=nn.CrossEntropyLoss(torch.tensor([0.3, 1.5, 1.2]), ignore_index=RIM))


def dice_and_cross_entropy():
    def criterion(output, mask):
        known = mask != RIM
        truth = F.one_hot(mask.clamp_max(2), 3).permute(0, 3, 1, 2) * known.unsqueeze(1)
        soft = output.softmax(1) * known.unsqueeze(1)
        dice = (2 * (soft * truth).sum((0, 2, 3)) + 1) / ((soft + truth).sum((0, 2, 3)) + 1)
        return F.cross_entropy(output, mask, ignore_index=RIM) + 1 - dice.mean()

    return make(criterion=criterion)


def batches_of_four():
    return make(batch=4)


CASES = cases(
    base,
    {
        rim_is_no_class: "labels-out-of-range",
        background_is_ignored: "ignore-index-hits-class",
        mask_of_a_channel: ("output-shape-mismatch", "forward-shape-mismatch", "user-code-error"),
        decoder_sees_a_copy: "graph-cut",
        levels_in_a_dict: "unregistered-modules",
        decoder_forgets_its_last_block: "unused-parameters",
        picture_divided_by_its_sum: ("nonfinite-activations", "nonfinite-loss"),
        classes_on_the_last_axis: "wrong-loss-axis",
        sigmoid_and_cross_entropy: ("activation-on-logits", "softmax-before-cross-entropy"),
        masks_of_another_picture: "labels-unrelated-to-inputs",
        mask_flipped_alone: ("labels-unrelated-to-inputs", "train-val-preprocessing-mismatch"),
    },
    (auxiliary_output, weighted_classes, dice_and_cross_entropy, batches_of_four),
)
