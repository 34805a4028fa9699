"""Healthy: strong settings that do no harm, edits of the programs of the group ``dynamics_``."""

from __future__ import annotations

from zoo.cases import Case, edited
from zoo.programs import (
    dynamics_cancer,
    dynamics_digits,
    dynamics_friedman,
    dynamics_glyphs,
    dynamics_gru,
    dynamics_shapes,
    dynamics_tabular,
    dynamics_tags,
    dynamics_transformer,
)

CASES: tuple[Case, ...] = (
    edited(dynamics_digits, "", ("p=0.3", "p=0.5"), variant="dropout-half"),
    edited(dynamics_tabular, "", ("width=96, p=0.2", "width=128, p=0.5"), variant="dropout-half"),
    edited(dynamics_gru, "", ("RMSprop", "Adam"), ("clip_grad_norm=1.0", "clip_grad_norm=1e-4"), variant="adam-clip"),
    edited(dynamics_digits, "", ("lr=0.05", "lr=0.1"), variant="lr-tenth"),
    edited(
        dynamics_shapes,
        "",
        ("return images, masks", "return (images.clamp(0, 1) * 255).round(), masks"),
        ("self.down1 = conv(3, width)", "self.down1 = nn.Sequential(nn.BatchNorm2d(3), conv(3, width))"),
        variant="0-255",
    ),
    edited(dynamics_transformer, "", ("label_smoothing=0.1", "label_smoothing=0.2"), variant="smoothing"),
    edited(
        dynamics_digits,
        "",
        ("lr=0.05", "lr=0.001"),
        ("epochs=15", "epochs=150"),
        ("step_size=8", "step_size=80"),
        variant="small-lr-long",
    ),
    edited(
        dynamics_friedman,
        "",
        ("lr=2e-3", "lr=5e-5"),
        ("epochs=20", "epochs=300"),
        ("T_max=20", "T_max=300"),
        variant="small-lr-long",
    ),
    edited(dynamics_transformer, "", ("EPOCHS, WARMUP = 10, 60", "EPOCHS, WARMUP = 20, 250"), variant="long-warmup"),
    edited(dynamics_tabular, "", ("weight_decay=0.01", "weight_decay=0.1"), variant="decay"),
    edited(dynamics_shapes, "", ("batch_size=8", "batch_size=2"), variant="batch-two"),
    edited(dynamics_gru, "", ("hidden=48", "hidden=12"), variant="tiny-easy"),
    edited(dynamics_tabular, "", ("flip_y=0.02", "flip_y=0.3"), variant="noise-30"),
    edited(dynamics_friedman, "", ("noise=1.0", "noise=8.0"), variant="noise"),
    edited(dynamics_digits, "", ("torch.randint(-1, 2, (2,))", "torch.randint(-2, 3, (2,))"), variant="augmentation"),
    edited(dynamics_glyphs, "", ("Glyphs(2000, 1, True)", "Glyphs(160, 1, True)"), variant="small-data"),
    edited(dynamics_friedman, "", ("hidden=64", "hidden=6"), variant="tiny"),
    edited(dynamics_tags, "", ("gamma=0.9", "gamma=0.75"), variant="lr-schedule"),
    edited(dynamics_gru, "", ("dropout=0.2", "dropout=0.5"), ("nn.Dropout(0.1)", "nn.Dropout(0.4)"), variant="dropout"),
    edited(dynamics_shapes, "", ("nn.Dropout2d(0.1)", "nn.Dropout2d(0.4)"), variant="dropout2d"),
    edited(
        dynamics_cancer,
        "",
        ("return Net()", "net = Net()\n    nn.init.zeros_(net.layers[-1].weight)\n    return net"),
        variant="small-init",
    ),
)
