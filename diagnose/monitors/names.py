"""What the monitors can find while a training runs. The command line reads this without torch."""

OF_STEPS = (
    "nonfinite-training", "stuck-at-chance", "diverging", "predicts-one-class", "slow-dataloader", "dead-relu",
    "saturated-activations", "graph-retained",
)  # fmt: skip
OF_EPOCHS = ("diverging", "loss-spike", "plateau", "overfitting", "below-expected-curve")
STOPPABLE = tuple(dict.fromkeys((*OF_STEPS, *OF_EPOCHS)))
