# ruff: noqa: E501  (changes stand as they stand in the scripts)
"""Loop faults: a healthy script of ``programs`` with one change, and the name that the change goes by.

Each script is run as it is too, and must stay without error or warning.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PROGRAMS = Path(__file__).parent / "programs"


@dataclass(frozen=True)
class Case:
    """``changes``: texts of the program and what stands in their place; each must occur exactly once."""

    program: str
    name: str
    changes: tuple[tuple[str, str], ...]

    @property
    def id(self) -> str:
        return f"{self.program}-{self.name}"

    def source(self) -> str:
        text = healthy(self.program)
        for old, new in self.changes:
            if text.count(old) != 1:
                raise ValueError(f"{self.id}: {old!r} occurs {text.count(old)} times")
            text = text.replace(old, new)
        return text


def healthy(program: str) -> str:
    return (PROGRAMS / f"{program}.py").read_text(encoding="utf-8")


def programs() -> list[str]:
    return sorted(path.stem for path in PROGRAMS.glob("*.py"))


def _case(program: str, name: str, *changes: str) -> Case:
    return Case(program, name, tuple(zip(changes[::2], changes[1::2], strict=True)))


CASES = (
    _case("quickstart", "gradients-not-cleared", "        optimizer.zero_grad()\n", ""),
    _case("quickstart", "eval-mode-in-training", "    model.train()\n", ""),
    _case("quickstart", "train-mode-in-validation", "    model.eval()\n", ""),
    _case(
        "quickstart", "gradients-cleared-before-step",
        "        optimizer.step()\n        optimizer.zero_grad()\n", "        optimizer.zero_grad()\n        optimizer.step()\n",
    ),
    _case("quickstart", "parameters-not-updated", "        optimizer.step()\n", ""),
    _case(
        "quickstart", "training-on-validation-data",
        "train(train_dataloader, model", "train(test_dataloader, model",
    ),
    _case("quickstart", "first-batch-only", '            print(f"loss: {loss.item():>7f}")\n',
          '            print(f"loss: {loss.item():>7f}")\n        return\n'),
    _case("quickstart", "parameters-missing-from-optimizer", "SGD(model.parameters()", "SGD(model.stack[4].parameters()"),
    _case("dcgan", "gradients-not-cleared", "        netD.zero_grad()\n", ""),
    _case("dcgan", "parameters-not-updated", "        optimizerD.step()\n", ""),
    _case("dcgan", "parameters-not-updated", "        optimizerG.step()\n", ""),
    _case("dcgan", "graph-retained", "G_losses.append(errG.item())", "G_losses.append(errG)",
          "    print(epoch, G_losses[-1], D_losses[-1])\n", "    print(epoch)\n"),
    _case("dcgan", "gradients-cleared-before-step", "        errG.backward()\n", "        errG.backward()\n        netG.zero_grad()\n"),
    _case("word_model", "gradients-not-cleared", "        optimizer.zero_grad()\n", ""),
    _case(
        "word_model", "clip-after-step",
        "        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.25)\n        optimizer.step()\n",
        "        optimizer.step()\n        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.25)\n",
    ),
    _case("word_model", "graph-retained", "        total_loss += loss.item()\n", "        total_loss += loss\n"),
    _case("word_model", "eval-mode-in-training", "    model.train()\n", ""),
    _case("word_model", "train-mode-in-validation", "    model.eval()\n", ""),
    _case("trainer_class", "best-weights-by-reference", "copy.deepcopy(self.model.state_dict())", "self.model.state_dict()"),
    _case("trainer_class", "best-weights-by-reference", "copy.deepcopy(self.model.state_dict())",
          "{k: v.cpu() for k, v in self.model.state_dict().items()}"),
    _case("trainer_class", "buffers-not-saved", "torch.save(self.model.state_dict(),",
          "torch.save({name: p.detach() for name, p in self.model.named_parameters()},"),
    _case("trainer_class", "schedule-collapses", "            self.scheduler.step()\n", "",
          "            total += loss.item()\n", "            total += loss.item()\n            self.scheduler.step()\n"),
    _case("trainer_class", "eval-mode-in-training", "        self.model.train()\n", ""),
    _case("trainer_class", "scheduler-before-optimizer", "            self.scheduler.step()\n", "",
          "            loss = self.train_epoch()\n", "            self.scheduler.step()\n            loss = self.train_epoch()\n"),
    _case("trainer_class", "training-on-validation-data", 'in self.loaders["train"]:', 'in self.loaders["val"]:'),
    _case("accumulation", "accumulation-not-averaged", "(loss / accumulation_steps).backward()", "loss.backward()"),
    _case("accumulation", "gradients-not-cleared", "            optim.step()\n            optim.zero_grad()\n", "            optim.step()\n"),
    _case(
        "mixed_precision", "clip-before-unscale",
        "        scaler.unscale_(optimizer)\n        nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)\n",
        "        nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)\n        scaler.unscale_(optimizer)\n",
    ),
    _case("mixed_precision", "clip-before-unscale", "        scaler.unscale_(optimizer)\n", ""),
    _case("mixed_precision", "gradients-not-cleared", "        optimizer.zero_grad(set_to_none=True)\n", ""),
    _case("ema", "stale-optimizer-parameters", "torch.optim.Adam(model.parameters()", "torch.optim.Adam(average.parameters()",
          ".requires_grad_(False)", ""),
    _case("ema", "train-mode-in-validation", "    net.eval()\n", ""),
    _case("ema", "eval-mode-in-training", "    model.train()\n", ""),
    _case("warm_restarts", "schedule-collapses",
          "optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=20, eta_min=1e-5)",
          "optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)",
          "scheduler.step(epoch + step / len(train_loader))", "scheduler.step()"),
    _case("warm_restarts", "train-mode-in-validation", "    model.eval()\n", ""),
    _case("curriculum", "first-batch-only", "            optimizer.step()\n", "            optimizer.step()\n            break\n",
          "batch_size=35, shuffle=True", "batch_size=35"),
    _case("curriculum", "gradients-not-cleared", "            optimizer.zero_grad()\n", ""),
    _case("curriculum", "training-on-validation-data", "        for x, y in loader:\n", "        for x, y in held_out:\n"),
    _case("semi_supervised", "gradients-not-cleared", "    opt.zero_grad()\n", ""),
    _case("semi_supervised", "eval-mode-in-training", "    student.train()\n", ""),
    _case("actor_critic", "gradients-not-cleared", "    critic_optimizer.zero_grad()\n", ""),
    _case("actor_critic", "parameters-not-updated", "    critic_optimizer.step()\n", ""),
    _case("actor_critic", "graph-retained", "history.append(critic_loss.item())", "history.append(critic_loss)",
          "print(sum(history[-10:]) / 10)", "print(float(sum(history[-10:]).detach()) / 10)"),
    _case("kfold", "optimizer-reused-across-models",
          "scores = []\n", "scores = []\noptimizer = torch.optim.Adam((model := build()).parameters(), lr=1e-2)\n",
          "    model = build()\n    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)\n",
          "    model = build() if fold else model\n"),
    _case("finetune", "stale-optimizer-parameters",
          "model.fc = nn.Linear(40, 3)\noptimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05, momentum=0.9)\n",
          "optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05, momentum=0.9)\nmodel.fc = nn.Linear(40, 3)\n"),
    _case("finetune", "training-on-validation-data", 'torch.set_grad_enabled(phase == "train")', "torch.enable_grad()",
          '                if phase == "train":\n                    loss.backward()\n                    optimizer.step()\n',
          "                loss.backward()\n                optimizer.step()\n"),
    _case("finetune", "eval-mode-in-training", "            model.train()\n            model.backbone.eval()\n", "            pass\n"),
    _case("resume", "optimizer-state-not-restored", '        optimizer.load_state_dict(checkpoint["optimizer"])\n', ""),
    _case("resume", "buffers-not-saved", '"model": model.state_dict()', '"model": dict(model.named_parameters())',
          'model.load_state_dict(checkpoint["model"])', 'model.load_state_dict(checkpoint["model"], strict=False)'),
    _case("lbfgs", "graph-retained", "history.append(loss.item())", "history.append(loss)",
          "print(history[0], history[-1])", "print(len(history))"),
    _case("by_hand", "train-mode-in-validation", "    net.eval()\n", ""),
    _case("by_hand", "eval-mode-in-training", "    net.train()\n", ""),
    _case("by_hand", "gradients-not-cleared", "        optimizer.zero_grad()\n", ""),
    _case("segmentation", "metric-over-wrong-axis", "logits.argmax(dim=1) == mask", "logits.argmax(dim=0)[0] == mask"),
    _case("segmentation", "train-mode-in-validation", "    unet.eval()\n", ""),
    _case("one_of_many", "no-set-epoch", "    sampler.set_epoch(epoch)\n", ""),
    _case("autoencoder", "graph-retained", "        train_loss += loss.item()\n", "        train_loss += loss\n",
          "print(epoch, train_loss / 320,", "print(epoch, float(train_loss.detach()) / 320,"),
    _case("autoencoder", "train-mode-in-validation", "    model.eval()\n", ""),
    _case("contrastive", "parameters-missing-from-optimizer",
          "itertools.chain(encoder.parameters(), projector.parameters())",
          "itertools.chain(encoder.parameters(), projector[0].parameters())"),
    _case("contrastive", "gradients-not-cleared", "        optimizer.zero_grad()\n", ""),
    _case("transformer", "eval-mode-in-training", "    model.train()\n    return", "    return"),
    _case("transformer", "train-mode-in-validation", "    model.eval()\n", ""),
    _case("transformer", "scheduler-before-optimizer", "        optimizer.step()\n        scheduler.step()\n",
          "        scheduler.step()\n        optimizer.step()\n"),
    _case("accelerated", "gradients-not-cleared", "            optimizer.zero_grad()\n", ""),
    _case("accelerated", "eval-mode-in-training", "    model.train()\n", ""),
    _case("accelerated", "train-mode-in-validation", "    model.eval()\n", ""),
    _case("recalibration", "gradients-not-cleared", "        optimizer.zero_grad()\n", ""),
)  # fmt: skip
