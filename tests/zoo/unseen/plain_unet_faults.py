"""Faults of ``plain_unet`` and what looks like them, each the plainest change of its source."""

from __future__ import annotations

from zoo.cases import Case, edited
from zoo.unseen import plain_unet as program

LOSS = "loss=nn.CrossEntropyLoss()"
OUT = "return self.out(u1)"
IMAGE = "image = torch.from_numpy(self.images[i]).permute(2, 0, 1)"

CASES = (
    Case("plain_unet", "", program.build),
    edited(program, "scrambled-image-layout", (IMAGE, "image = torch.from_numpy(self.images[i]).reshape(3, 32, 32)")),
    edited(program, "channels-last-input", (IMAGE, "image = torch.from_numpy(self.images[i])"), also=("forward-shape-mismatch",)),
    edited(program, "labels-unrelated-to-inputs", ("mask = torch.from_numpy(self.masks[i])", "mask = torch.from_numpy(self.masks[i - 1])")),
    edited(program, "labels-out-of-range", ("mask[inside] = kind", "mask[inside] = 255 if kind == 2 else 1"), ("colours[mask]", "colours[np.minimum(mask, 2)]")),
    edited(program, "num-classes-mismatch", ("model = UNet()", "model = UNet(num_classes=2)"), also=("labels-out-of-range",)),
    edited(program, "label-dtype-mismatch", ("mask = torch.from_numpy(self.masks[i])", "mask = torch.from_numpy(self.masks[i]).float()")),
    edited(program, "ignore-index-hits-class", (LOSS, "loss=nn.CrossEntropyLoss(ignore_index=1)")),
    edited(program, "all-targets-ignored", ("mask = torch.from_numpy(self.masks[i])", "mask = torch.full((32, 32), 255)"), (LOSS, "loss=nn.CrossEntropyLoss(ignore_index=255)")),
    edited(program, "softmax-before-cross-entropy", (OUT, "return torch.softmax(self.out(u1), dim=1)"), structural=True),
    edited(program, "softmax-over-batch", (OUT, "return torch.softmax(self.out(u1), dim=0)")),
    edited(program, "activation-on-logits", (OUT, "return torch.relu(self.out(u1))"), structural=True),
    edited(program, "wrong-loss-axis", (OUT, "return self.out(u1).permute(0, 2, 3, 1)"), also=("output-shape-mismatch",)),
    edited(program, "wrong-loss-axis", (LOSS, "loss=lambda out, y: nn.functional.cross_entropy(out.reshape(-1, NUM_CLASSES), y.reshape(-1))"), variant="reshaped"),
    edited(program, "output-shape-mismatch", ("nn.Conv2d(width, num_classes, 1)", "nn.Conv2d(width, num_classes, 1, stride=2)")),
    edited(program, "forward-shape-mismatch", ("self.dec2 = double_conv(4 * width", "self.dec2 = double_conv(2 * width")),
    edited(program, "train-val-preprocessing-mismatch", ("return (image - 0.35) / 0.2, mask", "return ((image - 0.35) / 0.2 if self.augment else image * 255), mask")),
    edited(program, "augmentation-on-validation", ("Scenes(images[300:], masks[300:])", "Scenes(images[300:], masks[300:], augment=True)"), structural=True),
    edited(program, "train-val-leakage", ("Scenes(images[300:], masks[300:])", "Scenes(images[240:300], masks[240:300])"), structural=True),
    edited(program, "batchnorm-statistics-lag", ("nn.BatchNorm2d(c_out)", "nn.BatchNorm2d(c_out, momentum=0.0)")),
    edited(program, "unused-parameters", ("torch.cat([self.up2(b), d2], dim=1)", "torch.cat([d2, d2], dim=1)"), structural=True),
    edited(program, "class-imbalance", ("mask[inside] = kind", "mask[inside & (np.hypot(y - cy, x - cx) < 1)] = kind"), structural=True),
    edited(program, "constant-labels", ("mask[inside] = kind", "mask[inside] = 0")),
    edited(program, "vanishing-initialisation", ("        self.out = nn.Conv2d(width, num_classes, 1)\n", "        self.out = nn.Conv2d(width, num_classes, 1)\n        for m in self.modules():\n            if isinstance(m, nn.BatchNorm2d):\n                nn.init.constant_(m.weight, 1e-4)\n"), structural=True, also=("vanishing-gradient",)),
    edited(program, "label-destroying-augmentation", ("image, mask = image.flip(-1), mask.flip(-1)", "image = image.flip(-1)"), also=("labels-unrelated-to-inputs", "noisy-labels")),
    # healthy
    edited(program, "", ("mask[inside] = kind", "mask[inside] = kind\n        mask[0] = 255"), ("colours[mask]", "colours[np.where(mask == 255, 0, mask)]"), (LOSS, "loss=nn.CrossEntropyLoss(ignore_index=255)"), variant="void_border"),
    edited(program, "", ("batch_size=10, shuffle=True", "batch_size=2, shuffle=True"), variant="batch_of_two"),
    edited(program, "", ("nn.BatchNorm2d(c_out)", "nn.GroupNorm(4, c_out)"), variant="groupnorm"),
)  # fmt: skip
