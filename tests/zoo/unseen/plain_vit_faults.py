"""Faults of ``plain_vit`` and what looks like them, each the plainest change of its source."""

from __future__ import annotations

from zoo.cases import Case, edited
from zoo.unseen import plain_vit as program

LAYOUT = "torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255"
SCALED = "    images = (images - 0.27) / 0.12\n"
BLOCKS = "nn.ModuleList([Block(dim, heads) for _ in range(depth)])"
HEAD = "return self.head(self.norm(x[:, 0]))"

CASES = (
    Case("plain_vit", "", program.build),
    edited(program, "channels-last-input", (LAYOUT, "torch.from_numpy(images).float() / 255"), also=("forward-shape-mismatch",)),
    edited(program, "scrambled-image-layout", (LAYOUT, "torch.from_numpy(images).reshape(-1, 3, 24, 24).float() / 255"), structural=True),
    edited(program, "inputs-not-normalised", (LAYOUT, "torch.from_numpy(images).permute(0, 3, 1, 2).float()"), (SCALED, "")),
    edited(program, "input-dtype-mismatch", (LAYOUT, "torch.from_numpy(images).permute(0, 3, 1, 2)"), (SCALED, ""), variant="bytes"),
    edited(program, "input-dtype-mismatch", (LAYOUT, "torch.from_numpy(images / 255).permute(0, 3, 1, 2)"), variant="double"),
    edited(program, "inputs-normalised-twice", (SCALED, SCALED + SCALED), structural=True),
    edited(program, "train-val-preprocessing-mismatch", ("TensorDataset(images[1100:], labels", "TensorDataset(images[1100:] * 0.12 + 0.27, labels")),
    edited(program, "unregistered-modules", (BLOCKS, "[Block(dim, heads) for _ in range(depth)]"), structural=True),
    edited(program, "batch-mixing", ("nn.MultiheadAttention(dim, heads, batch_first=True)", "nn.MultiheadAttention(dim, heads)")),
    edited(program, "softmax-before-cross-entropy", (HEAD, "return torch.softmax(self.head(self.norm(x[:, 0])), dim=-1)")),
    edited(program, "softmax-over-batch", (HEAD, "return torch.log_softmax(self.head(self.norm(x[:, 0])), dim=0)"), ("nn.CrossEntropyLoss()", "nn.NLLLoss()")),
    edited(program, "activation-on-logits", (HEAD, "return torch.tanh(self.head(self.norm(x[:, 0])))"), structural=True),
    edited(program, "ignored-input", ("torch.cat([cls, x], dim=1)", "torch.cat([cls, x * 0], dim=1)"), also=("zero-gradient",)),
    edited(program, "exploding-initialisation", ("        self.head = nn.Linear(dim, num_classes)\n", "        self.head = nn.Linear(dim, num_classes)\n        for parameter in self.parameters():\n            nn.init.normal_(parameter)\n")),
    edited(program, "symmetric-initialisation", ("        self.head = nn.Linear(dim, num_classes)\n", "        self.head = nn.Linear(dim, num_classes)\n        for parameter in self.parameters():\n            nn.init.constant_(parameter, 0.02)\n")),
    edited(program, "unused-parameters", (HEAD, "return self.head(x[:, 0])"), structural=True),
    edited(program, "device-mismatch", ("cls = self.cls_token.expand(x.size(0), -1, -1)", "cls = torch.zeros(x.size(0), 1, x.size(2), device=\"meta\")"), structural=True),
    edited(program, "forward-shape-mismatch", ("torch.randn(1, 17, dim)", "torch.randn(1, 16, dim)")),
    edited(program, "label-dtype-mismatch", ("torch.from_numpy(labels).long()", "torch.from_numpy(labels).float()")),
    edited(program, "num-classes-mismatch", ("num_classes=4, dim=48", "num_classes=10, dim=48"), structural=True),
    edited(program, "num-classes-mismatch", ("num_classes=4, dim=48", "num_classes=3, dim=48"), variant="three", also=("labels-out-of-range",)),
    edited(program, "labels-unrelated-to-inputs", ("labels = torch.from_numpy(labels).long()", "labels = torch.from_numpy(labels).long()[torch.randperm(1400)]")),
    edited(program, "train-val-leakage", ("TensorDataset(images[1100:], labels[1100:])", "TensorDataset(images[900:], labels[900:])"), structural=True),
    edited(program, "class-imbalance", ("labels = rng.integers(0, 4, n)", "labels = rng.choice(4, n, p=[0.97, 0.01, 0.01, 0.01])"), structural=True),
    edited(program, "schedule-period-mismatch", ("total_steps = 12 * len(train_loader)", "total_steps = 100 * len(train_loader)"), also=("warmup-outlasts-training",), structural=True),
    edited(program, "schedule-collapses", ("OneCycleLR(optimizer, max_lr=1e-3, total_steps=total_steps)", "StepLR(optimizer, step_size=4, gamma=0.1)")),
    edited(program, "zero-learning-rate", ("OneCycleLR(optimizer, max_lr=1e-3, total_steps=total_steps)", "LambdaLR(optimizer, lambda step: step // total_steps)")),
    edited(program, "everything-frozen", ("    optimizer = torch.optim.AdamW", "    model.requires_grad_(False)\n    optimizer = torch.optim.AdamW"), structural=True),
    edited(program, "loss-sign-flipped", ("loss=nn.CrossEntropyLoss()", "loss=lambda output, y: -nn.functional.cross_entropy(output, y)")),
    edited(program, "mse-for-classification", ("num_classes=4, dim=48", "num_classes=1, dim=48"), ("loss=nn.CrossEntropyLoss()", "loss=lambda output, y: nn.functional.mse_loss(output.squeeze(1), y.float())"), structural=True),
    edited(program, "graph-cut", ("h = self.norm1(x)", "h = self.norm1(x).detach()"), structural=True),
    # healthy
    edited(program, "", ("loss=nn.CrossEntropyLoss()", "loss=nn.CrossEntropyLoss(label_smoothing=0.1)"), variant="label_smoothing"),
    edited(program, "", (LAYOUT, "torch.from_numpy(images).permute(0, 3, 1, 2).float()"), (SCALED, ""), ("x = self.patch_embed(images)", "x = self.patch_embed((images / 255 - 0.27) / 0.12)"), variant="scaled_inside"),
    edited(program, "", ("        x = x + self.attention(h, h, h, need_weights=False)[0]\n        x = x + self.mlp(self.norm2(x))\n", "        x = x + self.scale1 * self.attention(h, h, h, need_weights=False)[0]\n        x = x + self.scale2 * self.mlp(self.norm2(x))\n"), ("        self.norm2 =", "        self.scale1 = nn.Parameter(torch.zeros(1))\n        self.scale2 = nn.Parameter(torch.zeros(1))\n        self.norm2 ="), variant="rezero"),
    edited(program, "", ("        x = x + self.attention", "        if self.training and torch.rand(1) < 0.1:\n            return x\n        x = x + self.attention"), variant="stochastic_depth"),
    edited(program, "", ("OneCycleLR(optimizer, max_lr=1e-3, total_steps=total_steps)", "LambdaLR(optimizer, lambda step: min(1.0, step / 22))"), variant="warm_up_from_zero"),
    edited(program, "", ("labels = torch.from_numpy(labels).long()", "labels = nn.functional.one_hot(torch.from_numpy(labels).long(), 4) * 0.9 + 0.025"), ("num_classes=4,\n        epochs", "num_classes=4,\n        intents=[\"soft-targets\"],\n        epochs"), variant="soft_targets"),
)  # fmt: skip
