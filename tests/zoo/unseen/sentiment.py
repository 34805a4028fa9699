"""An LSTM over packed sequences: batches are (tokens, lengths, labels), longest first or not."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
from torch.utils.data import DataLoader, Dataset

from diagnose import Pipeline
from zoo.cases import cases

VOCABULARY = 60
PAD = 0


@functools.lru_cache
def sentences(count: int, seed: int):
    """Words 1-20 are good and 21-40 bad; the label is the sign of the sum, which a `not` (41) turns over."""
    rng = np.random.default_rng(seed)
    rows = []
    while len(rows) < count:
        words = rng.integers(1, VOCABULARY, size=rng.integers(4, 14))
        good = ((words >= 1) & (words <= 20)).sum() - ((words > 20) & (words <= 40)).sum()
        if abs(good) < 2:
            continue
        rows.append((words, "positive" if good > 0 else "negative"))
    return rows


class Sentences(Dataset):
    def __init__(self, count, seed):
        self.rows = sentences(count, seed)

    def label(self, text):
        return {"negative": 0, "positive": 1}[text]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        words, text = self.rows[i]
        return torch.as_tensor(words), self.label(text)


def collate(rows):
    words, labels = zip(*rows, strict=True)
    lengths = torch.tensor([len(w) for w in words])
    return pad_sequence(words, batch_first=True, padding_value=PAD), lengths, torch.tensor(labels)


class Reader(nn.Module):
    def __init__(self, classes=2, padding_idx=PAD, vocabulary=VOCABULARY, dropout=0.2):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, 24, padding_idx=padding_idx)
        self.lstm = nn.LSTM(24, 32, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(64, classes)

    def forward(self, tokens, lengths):
        x = self.embedding(tokens)
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        _, (hidden, _) = self.lstm(packed)
        return self.fc(self.dropout(torch.cat([hidden[-2], hidden[-1]], dim=1)))


def make(model=None, loss=None, train=None, val=None, collate_fn=collate, optimizer=None, batch=50, **rest):
    model = model if model is not None else Reader()
    return Pipeline(
        model=model,
        train=DataLoader(train or Sentences(3000, 0), batch_size=batch, shuffle=True, collate_fn=collate_fn),
        val=DataLoader(val or Sentences(600, 1), batch_size=100, collate_fn=collate_fn),
        loss=loss or nn.CrossEntropyLoss(),
        optimizer=optimizer(model) if optimizer else torch.optim.Adam(model.parameters(), lr=3e-3),
        epochs=6,
        **rest,
    )


def base():
    return make()


# faults


def last_step_of_a_padded_batch():
    class Model(Reader):
        def forward(self, tokens, lengths):
            out, _ = self.lstm(self.embedding(tokens))
            return self.fc(self.dropout(out[:, -1]))

    return make(Model())


def label_text_is_never_met():
    class Misread(Sentences):
        def label(self, text):
            return int(text == "pos")

    return make(train=Misread(3000, 0), val=Misread(600, 1))


def batch_first_forgotten():
    class Model(Reader):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(24, 32, bidirectional=True)

        def forward(self, tokens, lengths):
            out, _ = self.lstm(self.embedding(tokens))
            return self.fc(self.dropout(out.mean(dim=1)))

    return make(Model())


def one_output_and_cross_entropy():
    return make(Reader(classes=1), loss=lambda output, y: nn.functional.cross_entropy(output, y.float().unsqueeze(1)))


def softmax_of_dim_zero():
    class Model(Reader):
        def forward(self, tokens, lengths):
            return torch.log_softmax(super().forward(tokens, lengths), dim=0)

    return make(Model(), loss=nn.NLLLoss())


def softmax_without_dim():
    class Model(Reader):
        def __init__(self):
            super().__init__()
            self.out = nn.Softmax(dim=0)

        def forward(self, tokens, lengths):
            return self.out(super().forward(tokens, lengths))

    return make(Model())


def first_word_is_taken_for_padding():
    """The padding is moved to the end of the vocabulary, but the layer still thinks that it is 0."""

    class Moved(Sentences):
        def __getitem__(self, i):
            words, label = super().__getitem__(i)
            return words - 1, label

    def padded(rows):
        words, labels = zip(*rows, strict=True)
        lengths = torch.tensor([len(w) for w in words])
        padded = pad_sequence(words, batch_first=True, padding_value=VOCABULARY - 1)
        return padded, lengths, torch.tensor(labels)

    return make(Reader(padding_idx=0), train=Moved(3000, 0), val=Moved(600, 1), collate_fn=padded)


def scores_through_numpy():
    class Model(Reader):
        def forward(self, tokens, lengths):
            x = self.embedding(tokens)
            packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
            _, (hidden, _) = self.lstm(packed)
            features = np.concatenate([h.detach().numpy() for h in hidden[-2:]], axis=1)
            return self.fc(self.dropout(torch.from_numpy(features)))

    return make(Model())


def embedding_is_too_small():
    return make(Reader(vocabulary=VOCABULARY // 2))


def labels_of_validation_turned_over():
    class Turned(Sentences):
        def label(self, text):
            return {"positive": 0, "negative": 1}[text]

    return make(val=Turned(600, 1))


def a_third_of_the_labels_is_wrong():
    class Noisy(Sentences):
        def __getitem__(self, i):
            words, label = super().__getitem__(i)
            wrong = np.random.default_rng(i).random() < 0.35
            return words, 1 - label if wrong else label

    return make(train=Noisy(3000, 0))


# healthy


def large_vocabulary():
    return make(Reader(vocabulary=5000))


def dropout_of_a_half():
    return make(Reader(dropout=0.5))


def one_logit():
    class Model(Reader):
        def __init__(self):
            super().__init__(classes=1)

        def forward(self, tokens, lengths):
            return super().forward(tokens, lengths).squeeze(1)

    return make(Model(), loss=lambda output, y: nn.functional.binary_cross_entropy_with_logits(output, y.float()))


def packed_in_the_batch():
    def packed(rows):
        tokens, lengths, labels = collate(rows)
        order = lengths.argsort(descending=True)
        return (tokens[order], lengths[order]), labels[order]

    class Model(Reader):
        def forward(self, text):
            return super().forward(*text)

    return make(Model(), collate_fn=packed)


def bucketed():
    rows = Sentences(3000, 0)
    order = sorted(range(len(rows)), key=lambda i: len(rows.rows[i][0]))
    batches = [order[i : i + 50] for i in range(0, len(order), 50)]

    class Buckets:
        def __iter__(self):
            for i in torch.randperm(len(batches)).tolist():
                yield batches[i]

        def __len__(self):
            return len(batches)

    model = Reader()
    return Pipeline(
        model=model,
        train=DataLoader(rows, batch_sampler=Buckets(), collate_fn=collate),
        val=DataLoader(Sentences(600, 1), batch_size=100, collate_fn=collate),
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
        epochs=6,
    )


CASES = cases(
    base,
    {
        last_step_of_a_padded_batch: "padding-affects-output",
        label_text_is_never_met: "constant-labels",
        batch_first_forgotten: "batch-mixing",
        one_output_and_cross_entropy: ("output-shape-mismatch", "num-classes-mismatch"),
        softmax_of_dim_zero: "softmax-over-batch",
        softmax_without_dim: "softmax-over-batch",
        first_word_is_taken_for_padding: "padding-idx-is-a-real-token",
        scores_through_numpy: "graph-cut",
        embedding_is_too_small: ("user-code-error", "forward-shape-mismatch"),
        labels_of_validation_turned_over: "label-map-differs-in-validation",
        a_third_of_the_labels_is_wrong: "noisy-labels",
    },
    (large_vocabulary, dropout_of_a_half, one_logit, packed_in_the_batch, bucketed),
    structural=(
        last_step_of_a_padded_batch,
        label_text_is_never_met,
        batch_first_forgotten,
        softmax_of_dim_zero,
        first_word_is_taken_for_padding,
    ),
)
