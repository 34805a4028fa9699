"""Faults of ``plain_gpt`` and what looks like them, each the plainest change of its source."""

from __future__ import annotations

from zoo.cases import Case, edited
from zoo.unseen import plain_gpt as program

MASK = '        att = att.masked_fill(self.mask[:, :, :T, :T] == 0, float("-inf"))\n'
LOSS = "F.cross_entropy(logits.view(-1, logits.size(-1)), y.view(-1))"
PAIR = "        x = chunk[:-1]\n        y = chunk[1:]\n"

CASES = (
    Case("plain_gpt", "", program.build),
    edited(program, "future-leak", (MASK, ""), structural=True),
    edited(program, "future-leak", ("torch.tril(torch.ones(BLOCK, BLOCK))", "torch.tril(torch.ones(BLOCK, BLOCK), diagonal=1)"), variant="off_by_one", structural=True),
    edited(program, "future-leak", ("torch.tril(torch.ones(BLOCK, BLOCK))", "torch.triu(torch.ones(BLOCK, BLOCK))"), variant="upper_triangle", structural=True),
    edited(program, "misaligned-language-model-labels", ("y = chunk[1:]", "y = chunk[:-1]"), structural=True),
    edited(program, "misaligned-language-model-labels", ("logits.view(-1, logits.size(-1)), y.view(-1)", "logits[:, :-1].reshape(-1, logits.size(-1)), y[:, 1:].reshape(-1)"), variant="shifted_twice", structural=True),
    edited(program, "unregistered-modules", ("nn.ModuleList([Block(n_embd, n_head) for _ in range(n_layer)])", "[Block(n_embd, n_head) for _ in range(n_layer)]"), structural=True),
    edited(program, "wrong-loss-axis", (LOSS, "F.cross_entropy(logits.view(logits.size(0), logits.size(2), -1), y)"), also=("batch-mixing",)),
    edited(program, "wrong-loss-axis", (LOSS, "F.cross_entropy(logits, y)"), variant="crashes", also=("output-shape-mismatch", "user-code-error")),
    edited(program, "softmax-before-cross-entropy", ("return self.lm_head(x)", "return F.softmax(self.lm_head(x), dim=-1)")),
    edited(program, "nll-on-probabilities", (LOSS, "F.nll_loss(F.softmax(logits, -1).view(-1, logits.size(-1)), y.view(-1))"), structural=True),
    edited(program, "unstable-log", (LOSS, "F.nll_loss(torch.log(F.softmax(logits, -1)).view(-1, logits.size(-1)), y.view(-1))"), structural=True),
    edited(program, "loss-detached", (LOSS, LOSS + "\n    loss = torch.tensor(loss.item())"), structural=True),
    edited(program, "loss-not-scalar", ("y.view(-1))", "y.view(-1), reduction=\"none\")")),
    edited(program, "", ("y.view(-1))", "y.view(-1), reduction=\"sum\")"), variant="summed_under_adam"),
    edited(program, "ignore-index-hits-class", ("y.view(-1))", "y.view(-1), ignore_index=0)")),
    edited(program, "all-targets-ignored", ("y.view(-1))", "torch.full_like(y, -100).view(-1))"), also=("nonfinite-loss",)),
    edited(program, "device-mismatch", ("device=idx.device", "device=\"cuda\""), structural=True),
    edited(program, "ignored-input", ("x = self.wte(idx) + self.wpe(pos)", "x = 0 * self.wte(idx) + self.wpe(pos)"), also=("zero-gradient",)),
    edited(program, "exploding-initialisation", ("std=0.02", "std=2.0")),
    edited(program, "symmetric-initialisation", ("nn.init.normal_(module.weight, mean=0.0, std=0.02)", "nn.init.constant_(module.weight, 0.02)")),
    edited(program, "zero-gradient", ("return self.lm_head(x)", "return self.lm_head(torch.sign(x))"), also=("graph-cut",)),
    edited(program, "graph-cut", ("x = self.ln_f(x)", "with torch.no_grad():\n            x = self.ln_f(x)"), structural=True),
    edited(program, "unused-parameters", ("x = self.wte(idx) + self.wpe(pos)", "x = self.wte(idx)"), structural=True),
    edited(program, "parameters-missing-from-optimizer", ("AdamW(model.parameters()", "AdamW([p for p in model.parameters() if p.dim() >= 2]"), structural=True),
    edited(program, "fp16-overflow", ("q @ k.transpose(-2, -1)) / math.sqrt(k.size(-1))", "(300 * q).half() @ (300 * k).half().transpose(-2, -1) * 30).float() / math.sqrt(k.size(-1))"), also=("nonfinite-activations", "nonfinite-loss")),
    edited(program, "", ("model = GPT(len(CHARS))", "model = GPT(64)"), variant="padded_vocabulary"),
    edited(program, "train-val-leakage", ("CharDataset(text[split:])", "CharDataset(text[split - 8000 : split])"), structural=True, also=("duplicate-samples",)),
    edited(program, "regulariser-dominates", (LOSS, LOSS + "\n    loss = loss + 0.1 * sum(p.pow(2).sum() for p in model.parameters())")),
    edited(program, "adam-epsilon-out-of-range", ("weight_decay=0.01)", "weight_decay=0.01, eps=0.1)")),
    # healthy
    edited(program, "", ("        self.apply(self._init_weights)", "        self.lm_head.weight = self.wte.weight\n        self.apply(self._init_weights)"), variant="tied"),
    edited(program, "", ("        att = (q @ k.transpose(-2, -1)) / math.sqrt(k.size(-1))\n" + MASK + "        att = F.softmax(att, dim=-1)\n        y = (att @ v)", "        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)\n        y = y"), variant="flash"),
    edited(program, "", ("        y = chunk[1:]\n        return x, y", "        return {\"input_ids\": chunk, \"labels\": chunk}"), ("    x, y = batch\n    logits = model(x)\n", "    logits = model(batch[\"input_ids\"])[:, :-1].contiguous()\n    y = batch[\"labels\"][:, 1:].contiguous()\n"), ("BLOCK = 24", "BLOCK = 25"), ("i * BLOCK + BLOCK + 1]", "i * BLOCK + BLOCK]"), variant="shifted_in_the_loss"),
)  # fmt: skip
