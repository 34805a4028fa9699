"""Faults of ``plain_text`` and what looks like them, each the plainest change of its source."""

from __future__ import annotations

from zoo.cases import Case, edited
from zoo.unseen import plain_text as program

PACKED = "        packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)\n        _, hidden = self.gru(packed)\n        hidden = hidden[-1]\n"
OUT = "return self.fc(self.dropout(hidden))"
ROWS = "    rows = reviews()\n"

CASES = (
    Case("plain_text", "", program.build),
    edited(program, "padding-affects-output", (PACKED, "        _, hidden = self.gru(embedded)\n        hidden = hidden[-1]\n"), structural=True),
    edited(program, "padding-affects-output", (PACKED, "        hidden = self.gru(embedded)[0].mean(dim=1)\n"), variant="mean_over_padding", structural=True),
    edited(program, "batch-mixing", (PACKED, "        _, hidden = self.gru(embedded.transpose(0, 1))\n        hidden = hidden[-1]\n"), also=("forward-shape-mismatch",), variant="crashes"),
    edited(program, "batch-mixing", (PACKED, "        hidden = self.gru(embedded)[0][:, -1]\n"), ("hidden, batch_first=True", "hidden"), also=("padding-affects-output",)),
    edited(program, "padding-idx-is-a-real-token", ("nn.Embedding(vocab_size, embed_dim, padding_idx=PAD)", "nn.Embedding(vocab_size, embed_dim, padding_idx=2)"), structural=True),
    edited(program, "nondeterministic-eval", (OUT, "return self.fc(nn.functional.dropout(hidden, 0.5))")),
    edited(program, "softmax-before-cross-entropy", (OUT, "return torch.softmax(self.fc(self.dropout(hidden)), dim=1)"), structural=True),
    edited(program, "activation-on-logits", (OUT, "return torch.relu(self.fc(self.dropout(hidden)))"), structural=True),
    edited(program, "output-shape-mismatch", ("num_classes=2", "num_classes=1")),
    edited(program, "ignored-input", (PACKED, "        hidden = torch.zeros(len(tokens), 48)\n")),
    edited(program, "graph-cut", ("embedded = self.embedding(tokens)", "embedded = self.embedding(tokens).detach()"), structural=True),
    edited(program, "graph-cut", ("hidden = hidden[-1]", "hidden = hidden[-1].data"), variant="data", structural=True),
    edited(program, "labels-unrelated-to-inputs", (ROWS, "    rows = reviews()\n    labels = [label for _, label in rows]\n    random.shuffle(labels)\n    rows = [(text, label) for (text, _), label in zip(rows, labels)]\n")),
    edited(program, "noisy-labels", ("found.append((\" \".join(words), label))", "found.append((\" \".join(words), label if rng.random() < 0.7 else 1 - label))")),
    edited(program, "train-val-leakage", ("Reviews(rows[1000:])", "Reviews(rows[600:])"), structural=True),
    edited(program, "repeated-samples", ("text, label = self.rows[index]", "text, label = self.rows[index % 8]"), also=("train-val-leakage", "duplicate-samples")),
    edited(program, "class-imbalance", ("label = rng.randint(0, 1)", "label = int(rng.random() < 0.02)"), structural=True),
    edited(program, "unshuffled-training-data", (ROWS, "    rows = reviews()\n    rows = sorted(rows[:1000], key=lambda row: row[1]) + rows[1000:]\n"), ("batch_size=32, shuffle=True", "batch_size=32")),
    edited(program, "missing-classes", (ROWS, "    rows = sorted(reviews(), key=lambda row: row[1])\n")),
    edited(program, "constant-inputs", ("VOCAB.get(word, 1)", "VOCAB.get(word.upper(), 1)")),
    edited(program, "label-dtype-mismatch", ("torch.tensor(labels)", "torch.tensor(labels, dtype=torch.float32)")),
    edited(program, "target-outside-loss-domain", ("return tokens, lengths, torch.tensor(labels)", "return tokens, lengths, 2 * torch.tensor(labels) - 1"), also=("labels-out-of-range",)),
    edited(program, "input-dtype-mismatch", ("    return tokens, lengths,", "    return tokens.float(), lengths,")),
    edited(program, "user-code-error", ("Classifier(len(VOCAB))", "Classifier(len(VOCAB) - 8)"), variant="index_out_of_vocabulary", also=("forward-shape-mismatch",)),
    edited(program, "user-code-error", ("pad_sequence(texts, batch_first=True, padding_value=PAD)", "torch.stack(texts)"), variant="stack_of_ragged"),
    edited(program, "everything-frozen", ("    return Pipeline(", "    for parameter in model.parameters():\n        parameter.requires_grad = False\n    return Pipeline("), structural=True),
    edited(program, "parameters-missing-from-optimizer", ("Adam(model.parameters()", "Adam(list(model.gru.parameters()) + list(model.fc.parameters())"), structural=True),
    # healthy
    edited(program, "", ("nn.GRU(embed_dim", "nn.LSTM(embed_dim"), ("_, hidden = self.gru", "_, (hidden, _) = self.gru"), variant="lstm"),
    edited(program, "", (PACKED, "        mask = (tokens != PAD).unsqueeze(2)\n        hidden = (self.gru(embedded)[0] * mask).sum(1) / mask.sum(1)\n"), variant="masked_mean"),
    edited(program, "", ("padding_idx=PAD)", "padding_idx=PAD, sparse=True)"), ("torch.optim.Adam(model.parameters(), lr=2e-3)", "torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.0)"), ("        clip_grad_norm=1.0,\n", ""), variant="sparse_embedding"),
    edited(program, "", (OUT, "return self.fc(self.dropout(hidden)).squeeze(1)"), ("num_classes=2", "num_classes=1"), ("torch.tensor(labels)", "torch.tensor(labels, dtype=torch.float32)"), ("nn.CrossEntropyLoss()", "nn.BCEWithLogitsLoss()"), variant="one_logit"),
)  # fmt: skip
