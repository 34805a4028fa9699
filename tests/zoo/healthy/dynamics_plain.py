"""Healthy: settings that look strong, small or large in an ordinary program, and do no harm there."""

from __future__ import annotations

from zoo.cases import Case, edited
from zoo.programs import dynamics_plain_cnn as cnn
from zoo.programs import dynamics_plain_mlp as mlp

ADAM = "optimizer=torch.optim.Adam(model.parameters(), lr=1e-3)"

CASES: tuple[Case, ...] = (
    edited(cnn, "", ("nn.Dropout(0.1)", "nn.Dropout(0.5)"), variant="dropout"),
    edited(cnn, "", ("weight_decay=5e-4", "weight_decay=0.02"), variant="decay"),
    edited(cnn, "", ("lr=0.02", "lr=0.05"), variant="lr"),
    edited(
        cnn, "", ("    return image\n\n\nclass Net", "    return image + 0.4 * torch.randn_like(image)\n\n\nclass Net"),
        variant="noise",
    ),
    edited(mlp, "", (ADAM, f"{ADAM},\n        clip_grad_norm=1e-5"), variant="adam-clip"),
    edited(mlp, "", ("CrossEntropyLoss()", "CrossEntropyLoss(label_smoothing=0.2)"), variant="smoothing"),
    edited(mlp, "", ("hidden=128", "hidden=24"), variant="narrow"),
    edited(
        mlp, "", (ADAM, "optimizer=torch.optim.SGD(model.parameters(), lr=2e-3)"), ("epochs=5", "epochs=100"),
        variant="slow-and-long",
    ),
)  # fmt: skip
