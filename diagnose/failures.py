"""Which name a failure of the user's code goes by: read from the exception's type and text, for torch has few types."""

from __future__ import annotations

import re

OUT_OF_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory", re.IGNORECASE)
DEVICE_ASSERT = re.compile(r"device-side assert|CUBLAS_STATUS|illegal memory access")
DEVICES = re.compile(
    r"on the same device|is not on the expected device|(weight|bias) is on \w+"
    r"|Input type \((?:torch\.)?cuda[^)]*\) and weight type \((?!torch\.cuda|cuda)"
    r"|Input type \((?!torch\.cuda|cuda)[^)]*\) and weight type \((?:torch\.)?cuda"
)
NO_SUCH_DEVICE = re.compile(r"Torch not compiled with \w+ enabled|Found no NVIDIA driver|No CUDA GPUs are available")
CATEGORY = re.compile(r"Class values must be (smaller than num_classes|non-negative)")  # one_hot
TARGET_RANGE = re.compile(
    r"Target -?\d+ is out of bounds|index -?\d+ is out of bounds for dimension \d+ with size|" + CATEGORY.pattern
)
TARGET_DOMAIN = re.compile(r"all elements of target should be between 0 and 1")
LOGITS_IN_BCE = re.compile(r"all elements of input should be between 0 and 1")
SINGLE_SAMPLE = re.compile(r"Expected more than 1 value per channel when training")
TARGET_TYPE = re.compile(
    r"expected scalar type Long but found|nll_loss\w*\"? not implemented for|Expected floating point type for target"
    r"|result type \w+ can't be cast|Found dtype \w+ but expected|expected target .*dtype",
    re.IGNORECASE,
)
TARGET_SHAPE = re.compile(
    r"batch_size \(\d+\) to match target batch_size|must be the same as input size|same as the? ?input size"
    r"|size mismatch \(got input|input and target .*sizes? don't match"
    r"|0D or 1D target tensor expected|multi-target not supported|Expected target size|only batches of spatial targets"
    r"|The size of tensor a \(\d+\) must match|Dimension out of range|weight tensor should be defined"
)
INPUT_TYPE = re.compile(
    r"same dtype|expected scalar type|should be the same$|should be the same\b.*type|scalar types: Long, Int"
    r"|does not match weight dtype|not implemented for|mat1 and mat2 must have|Input type \(.*\) and (weight|bias) type"
)
INPUT_SHAPE = re.compile(
    r"shapes cannot be multiplied|expected input\[|to have \d+ channels|is invalid for input of size"
    r"|size mismatch|must match the size of tensor|Expected \dD|Expected .*input|Given normalized_shape"
    r"|input has inconsistent|input\.size\(-1\) must be equal|Kernel size can't be greater"
    r"|Output size is too small|Calculated padded input size|weight of size|does not match|too many indices"
    r"|running_mean should contain|embedding dimension|Dimension out of range|Sizes of tensors must match"
    r"|view size is not compatible|expected sequence of length|Expected size for"
)


# What no single file can cause: the first two samples of a batch differ in size, as all may.
MISUSE = re.compile(
    r"(module|type object) '[\w.]+' has no attribute|positional argument|unexpected keyword argument"
    r"|stack expects each tensor to be equal size, but got \[.*\] at entry 0 and \[.*\] at entry 1$"
)


def _is_of_the_code(error: BaseException) -> bool:
    """Whether a failure while reading is that of the code whatever it reads, and not of one sample."""
    from torch.utils.data import Dataset

    if isinstance(error, (NameError, ImportError)):
        return True
    if isinstance(error, AttributeError) and isinstance(error.obj, Dataset):
        return True
    return isinstance(error, (AttributeError, TypeError, RuntimeError)) and MISUSE.search(str(error)) is not None


def device_is_absent(error: BaseException) -> bool:
    """Whether the user's code asked for a device that this machine, or this torch, does not have."""
    return NO_SUCH_DEVICE.search(str(error)) is not None


def failure_name(error: BaseException, phase: str) -> str:
    """A catalogue name for an exception of the user's code in ``phase`` (forward, loss, ...)."""
    text = str(error)
    if type(error).__name__ == "OutOfMemoryError" or (
        isinstance(error, (RuntimeError, MemoryError)) and OUT_OF_MEMORY.search(text)
    ):
        return "device-out-of-memory"
    if phase == "reading data":
        return "user-code-error" if _is_of_the_code(error) else "unreadable-sample"
    if not isinstance(error, (RuntimeError, IndexError, ValueError, AssertionError)):
        return "user-code-error"
    if DEVICE_ASSERT.search(text):
        return "device-assert"
    if DEVICES.search(text) or (phase in {"forward", "loss", "train_step"} and device_is_absent(error)):
        return "device-mismatch"
    if SINGLE_SAMPLE.search(text):
        return "batchnorm-on-single-sample"
    if phase in {"loss", "train_step"}:
        for pattern, name in (
            (TARGET_RANGE, "labels-out-of-range"),
            (LOGITS_IN_BCE, "bce-on-probabilities"),
            (TARGET_DOMAIN, "target-outside-loss-domain"),
            (TARGET_TYPE, "label-dtype-mismatch"),
            (TARGET_SHAPE, "output-shape-mismatch"),
        ):
            if pattern.search(text):
                return name
    if phase in {"forward", "loss", "train_step"}:
        if INPUT_TYPE.search(text):
            return "input-dtype-mismatch"
        if INPUT_SHAPE.search(text):
            return "forward-shape-mismatch"
    return "user-code-error"
