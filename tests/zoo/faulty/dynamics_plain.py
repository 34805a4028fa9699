"""Faults of dynamics in their plainest form: one number or one line of an ordinary program."""

from __future__ import annotations

from zoo.cases import Case, edited
from zoo.programs import dynamics_plain_cnn as cnn
from zoo.programs import dynamics_plain_mlp as mlp

ADAM = "torch.optim.Adam(model.parameters(), lr=1e-3)"

CASES: tuple[Case, ...] = (
    edited(cnn, "learning-rate-too-high", ("lr=0.02", "lr=20.0"), variant="lr-high"),
    edited(cnn, "zero-learning-rate", ("lr=0.02", "lr=0.0"), variant="lr-zero"),
    edited(cnn, "learning-rate-too-low", ("lr=0.02", "lr=1e-7"), variant="lr-low"),
    edited(cnn, "dropout-too-strong", ("nn.Dropout(0.1)", "nn.Dropout(0.98)"), variant="dropout"),
    edited(cnn, "weight-decay-too-strong", ("weight_decay=5e-4", "weight_decay=2.0"), variant="decay"),
    edited(
        cnn, "augmentation-too-strong",
        ("    return image\n\n\nclass Net", "    return image + 20 * torch.randn_like(image)\n\n\nclass Net"),
        variant="noise", also=("label-destroying-augmentation",),
    ),
    edited(
        cnn, "schedule-collapses",
        ("        scheduler=scheduler,", "        scheduler=scheduler,\n        scheduler_interval=\"step\","),
        variant="stepped-per-batch", also=("schedule-period-mismatch",),
    ),
    edited(
        cnn, "label-smoothing-too-strong", ("CrossEntropyLoss()", "CrossEntropyLoss(label_smoothing=0.99)"),
        variant="smoothing",
    ),
    edited(mlp, "learning-rate-too-high", ("lr=1e-3", "lr=1.0"), variant="lr-high"),
    edited(mlp, "learning-rate-too-low", (ADAM, "torch.optim.SGD(model.parameters(), lr=1e-3)"), variant="plain-sgd"),
    edited(mlp, "learning-rate-too-low", ("lr=1e-3", "lr=1e-8"), variant="lr-low"),
    edited(
        mlp, "dropout-too-strong",
        ("x = F.relu(self.fc2(x))", "x = F.dropout(F.relu(self.fc2(x)), 0.99, self.training)"), variant="dropout",
    ),
    edited(
        mlp, "gradient-clip-too-small",
        (f"optimizer={ADAM},", "optimizer=torch.optim.SGD(model.parameters(), lr=0.1),\n        clip_grad_norm=1e-4,"),
        variant="clip",
    ),
    edited(
        mlp, "exploding-initialisation",
        ("    model = NeuralNetwork()", "    model = NeuralNetwork()\n    for p in model.parameters():\n        "
         "nn.init.normal_(p, std=10.0)"),
        variant="init",
    ),
    edited(
        mlp, "symmetric-initialisation",
        ("    model = NeuralNetwork()", "    model = NeuralNetwork()\n    for p in model.parameters():\n        "
         "nn.init.constant_(p, 0.0)"),
        variant="init-zero",
    ),
    edited(
        mlp, "capacity-too-small",
        ("self.fc2 = nn.Linear(hidden, hidden)", "self.fc2 = nn.Linear(hidden, 1)"),
        ("self.out = nn.Linear(hidden, CLASSES)", "self.out = nn.Linear(1, CLASSES)"),
        variant="bottleneck", also=("dead-relu",),
    ),
)  # fmt: skip
