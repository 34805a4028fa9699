"""Masked tokens: sentences of a small grammar, one token in five hidden, the hidden ones to be found; dict batches."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from diagnose import Pipeline
from zoo.cases import cases

PAD, MASK, FIRST, WORDS = 0, 1, 2, 26
LONGEST, COUNT, TRAIN = 16, 1500, 1300


@functools.lru_cache
def sentences():
    """Each word goes on to one of two, by its class; the first word's parity chooses the dialect."""
    g = torch.Generator().manual_seed(40)
    words = WORDS - FIRST
    rows = []
    for _ in range(COUNT):
        word = int(torch.randint(words, (), generator=g))
        dialect, row = word % 2, []
        for _ in range(int(torch.randint(9, LONGEST + 1, (), generator=g))):
            row.append(FIRST + word)
            step = 5 if dialect else 7
            word = (word + step + int(torch.rand((), generator=g) < 0.1)) % words
        rows.append(torch.tensor(row))
    return rows


class Hidden(Dataset):
    def __init__(self, begin, end, fixed=False, hide=True, ignore=-100):
        self.rows, self.fixed, self.hide, self.ignore = sentences()[begin:end], fixed, hide, ignore

    def __len__(self):
        return len(self.rows)

    def chosen(self, i, ids):
        g = torch.Generator().manual_seed(i) if self.fixed else None
        chosen = torch.rand(len(ids), generator=g) < 0.2
        chosen[int(torch.randint(len(ids), (), generator=g))] = True
        return chosen

    def __getitem__(self, i):
        ids = self.rows[i].clone()
        chosen = self.chosen(i, ids)
        labels = torch.where(chosen, ids, self.ignore)
        if self.hide:
            ids[chosen] = MASK
        return ids, labels


def collate(rows, ignore=-100):
    ids = nn.utils.rnn.pad_sequence([r[0] for r in rows], batch_first=True, padding_value=PAD)
    labels = nn.utils.rnn.pad_sequence([r[1] for r in rows], batch_first=True, padding_value=ignore)
    return {"input_ids": ids, "attention_mask": (ids != PAD).long(), "labels": labels}


class Encoder(nn.Module):
    def __init__(self, width=48, words=WORDS, tied=False, ignore=-100):
        super().__init__()
        self.words, self.place = nn.Embedding(words, width, padding_idx=PAD), nn.Embedding(LONGEST, width)
        layer = nn.TransformerEncoderLayer(width, 4, 96, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, words)
        if tied:
            nn.init.normal_(self.words.weight, 0, 0.3)
            self.head.weight = self.words.weight
        self.ignore = ignore

    def hidden(self, attention_mask):
        return attention_mask == 0

    def forward(self, input_ids, attention_mask, labels=None):
        h = self.words(input_ids) + self.place(torch.arange(input_ids.shape[1]))
        logits = self.head(self.encoder(h, src_key_padding_mask=self.hidden(attention_mask)))
        if labels is None:
            return {"logits": logits}
        loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=self.ignore)
        return {"loss": loss, "logits": logits}


def own(model, batch):
    out = model(**batch)
    return out["loss"], out["logits"]


def make(model=None, data=Hidden, val=None, collate=collate, intents=(), **kw):
    model = model or Encoder()
    return Pipeline(
        model=model,
        train=DataLoader(data(0, TRAIN, **kw), batch_size=48, shuffle=True, collate_fn=collate),
        val=DataLoader(val or data(TRAIN, COUNT, fixed=True, **kw), batch_size=100, collate_fn=collate),
        compute_loss=own,
        optimizer=torch.optim.AdamW(model.parameters(), lr=3e-3),
        epochs=10,
        intents=intents,
    )


def build():
    return make()


# faults


def nothing_hidden():
    return make(hide=False)


class Afterwards(Hidden):
    """The labels are looked up where the ids are still the words, which is nowhere after the loop."""

    def __getitem__(self, i):
        ids = self.rows[i].clone()
        chosen = self.chosen(i, ids)
        ids[chosen] = MASK
        labels = ids.clone()
        labels[ids == MASK] = -100
        labels[~chosen] = -100
        return ids, labels


def hidden_before_copied():
    return make(data=Afterwards)


def another_number_is_ignored():
    return make(model=Encoder(ignore=PAD))


def mask_the_wrong_way():
    class Inverted(Encoder):
        def hidden(self, attention_mask):
            return attention_mask.bool() & (torch.arange(attention_mask.shape[1]) > 0)

    return make(model=Inverted())


def mask_never_given():
    class Blind(Encoder):
        def hidden(self, attention_mask):
            return torch.zeros_like(attention_mask, dtype=torch.bool)

    return make(model=Blind())


def vocabulary_without_specials():
    class Small(Encoder):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(48, WORDS - FIRST)

    return make(model=Small())


def checkpoint_of_a_wrapped_model():
    torch.manual_seed(77)
    stored = {f"module.{name}": value for name, value in Encoder().state_dict().items()}
    model = Encoder()
    model.load_state_dict(stored, strict=False)
    return make(model=model, intents=("pretrained",))


def stacked_along_time():
    """The encoder's layers read the batch as time."""

    class Turned(Encoder):
        def __init__(self):
            super().__init__()
            layer = nn.TransformerEncoderLayer(48, 4, 96, dropout=0.0, norm_first=True)
            self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

        def hidden(self, attention_mask):
            return None

    return make(model=Turned())


def words_looked_up_from_a_file():
    class Looked(Encoder):
        def forward(self, input_ids, attention_mask, labels=None):
            table = nn.Embedding(WORDS, 48)
            h = table(input_ids) + self.place(torch.arange(input_ids.shape[1]))
            logits = self.head(self.encoder(h, src_key_padding_mask=self.hidden(attention_mask)))
            return {"loss": F.cross_entropy(logits.flatten(0, 1), labels.flatten()), "logits": logits}

    return make(model=Looked())


# healthy


def tied_and_static():
    return make(model=Encoder(tied=True), data=lambda a, b, fixed=False: Hidden(a, b, fixed=True))


class Spans(Hidden):
    def chosen(self, i, ids):
        g = torch.Generator().manual_seed(i) if self.fixed else None
        begin = int(torch.randint(len(ids) - 2, (), generator=g))
        chosen = torch.zeros(len(ids), dtype=torch.bool)
        chosen[begin : begin + 3] = True
        return chosen


def three_in_a_row():
    return make(data=Spans)


class Replaced(Hidden):
    """Of the chosen some stay as they are and some become another word, as in BERT."""

    def __getitem__(self, i):
        ids, labels = super().__getitem__(i)
        g = torch.Generator().manual_seed(i + 1) if self.fixed else None
        chance = torch.rand(len(ids), generator=g)
        keep, other = (labels >= 0) & (chance < 0.1), (labels >= 0) & (chance > 0.9)
        ids[keep] = labels[keep]
        ids[other] = torch.randint(FIRST, WORDS, (int(other.sum()),), generator=g)
        return ids, labels


def some_stay():
    return make(data=Replaced)


def some_rows_hide_nothing():
    class Rare(Hidden):
        def chosen(self, i, ids):
            chosen = super().chosen(i, ids)
            return chosen & False if i % 4 == 0 else chosen

    return make(data=Rare)


def encoder_from_a_checkpoint():
    torch.manual_seed(78)
    stored = {name: value for name, value in Encoder().state_dict().items() if not name.startswith("head")}
    model = Encoder()
    model.load_state_dict(stored, strict=False)
    return make(model=model, intents=("pretrained",))


CASES = cases(
    build,
    {
        nothing_hidden: "target-leaked-into-input",
        hidden_before_copied: "all-targets-ignored",
        another_number_is_ignored: ("labels-out-of-range", "user-code-error"),
        mask_the_wrong_way: ("padding-affects-output", "ignored-input"),
        mask_never_given: ("padding-affects-output", "ignored-input"),
        vocabulary_without_specials: ("labels-out-of-range", "num-classes-mismatch", "output-shape-mismatch"),
        checkpoint_of_a_wrapped_model: "pretrained-weights-not-loaded",
        stacked_along_time: "batch-mixing",
        words_looked_up_from_a_file: "layer-created-in-forward",
    },
    [tied_and_static, three_in_a_row, some_stay, some_rows_hide_nothing, encoder_from_a_checkpoint],
    structural=[nothing_hidden, mask_never_given, checkpoint_of_a_wrapped_model],
)
