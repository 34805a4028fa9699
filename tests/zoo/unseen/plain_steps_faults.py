"""Faults of ``plain_steps`` and what looks like them, each the plainest change of its source."""

from __future__ import annotations

from zoo.cases import Case, edited
from zoo.unseen import plain_steps as program

ZERO, STEP, BACKWARD = "    optimizer.zero_grad()\n", "    optimizer.step()\n", "    loss.backward()\n"
LOSS = "    loss = F.cross_entropy(outputs, labels)\n"
ACCUMULATED = "    loss = F.cross_entropy(outputs, labels)\n    loss.backward()\n    optimizer.step()\n"
TWO = (
    "    half = len(images) // 2\n    for part in (slice(None, half), slice(half, None)):\n"
    "        loss = F.cross_entropy(model(images[part]), labels[part]){}\n        loss.backward()\n    optimizer.step()\n"
)
OUTPUTS = "    outputs = model(images)\n"

CASES = (
    Case("plain_steps", "", program.build),
    edited(program, "inputs-not-normalised", (" / 16", " * 16"), also=("exploding-initialisation",)),
    edited(program, "gradients-not-cleared", (ZERO, "")),
    edited(program, "gradients-cleared-before-step", (ZERO, ""), (STEP, ZERO + STEP)),
    edited(program, "parameters-not-updated", (STEP, "")),
    edited(program, "parameters-not-updated", (BACKWARD, ""), variant="no_backward", also=("zero-gradient",)),
    edited(program, "accumulation-not-averaged", (OUTPUTS, ""), (ACCUMULATED, TWO.format("")), structural=True),
    edited(program, "clip-after-step", (STEP, STEP + "    nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n"), structural=True),
    edited(program, "clip-before-unscale", (BACKWARD + STEP, "    scaler.scale(loss).backward()\n    nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n    scaler.step(optimizer)\n    scaler.update()\n"), ("def train_step", "scaler = torch.amp.GradScaler(\"cpu\")\n\n\ndef train_step"), structural=True),
    edited(program, "eval-mode-in-training", ("model.train()", "model.eval()"), ("nn.ReLU(), nn.Linear(64, 10)", "nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 10)"), structural=True),
    edited(program, "loss-detached", ("return loss.detach()", "return loss.detach()"), (LOSS, "    loss = F.cross_entropy(outputs.detach(), labels).requires_grad_()\n"), also=("graph-cut", "parameters-not-updated"), structural=True),
    edited(program, "softmax-before-cross-entropy", ("nn.Linear(64, 10))", "nn.Linear(64, 10), nn.Softmax(dim=1))")),
    edited(program, "zero-learning-rate", ("lr=0.05", "lr=0")),
    edited(program, "stale-optimizer-parameters", ("    return Pipeline(", "    model.classifier = nn.Sequential(nn.Flatten(), nn.Linear(512, 10))\n    return Pipeline("), also=("parameters-missing-from-optimizer",), structural=True),
    edited(program, "exploding-gradient", ("            nn.ReLU(),\n        )\n", "            nn.ReLU(),\n        )\n        for layer in self.features:\n            if isinstance(layer, nn.Conv2d):\n                nn.init.normal_(layer.weight, std=3.0)\n"), also=("exploding-initialisation",)),
    edited(program, "saturated-activations", ("nn.ReLU()", "nn.Sigmoid()"), (" / 16", " * 1000"), also=("inputs-not-normalised",)),
    edited(program, "train-val-leakage", ("DataLoader(val, batch_size=64)", "DataLoader(train, batch_size=64)"), structural=True),
    edited(program, "duplicate-samples", ("DataLoader(train, batch_size=32, shuffle=True)", "DataLoader(torch.utils.data.Subset(train, list(range(150)) * 10), batch_size=32, shuffle=True)"), structural=True),
    edited(program, "user-code-error", ("    images, labels = batch\n", "    images, labels = batch[\"images\"], batch[\"labels\"]\n"), variant="not_a_dict"),
    # healthy
    edited(program, "", (OUTPUTS, ""), (ACCUMULATED, TWO.format(" / 2")), variant="accumulates"),
    edited(program, "", (STEP, "    nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n" + STEP), variant="clips"),
    edited(program, "", ("    optimizer.zero_grad()\n", ""), (STEP, STEP + ZERO), variant="clears_afterwards"),
    edited(program, "", ("lr=0.05", "lr=0.1"), variant="sgd_tenth"),
)  # fmt: skip
