"""What torch says about itself, as one line of JSON. Run by file in a process of its own, so imports nothing of ours:
a broken installation may raise, hang or die, and the doctor lives on."""

from __future__ import annotations

import json
import sys
from typing import Any


def told() -> dict[str, Any]:
    """``torch``, ``threads``, ``cuda`` (the version it was built for, or None), ``devices``, and what went wrong."""
    found: dict[str, Any] = {"devices": []}
    try:
        import torch

        found |= {"torch": torch.__version__, "threads": torch.get_num_threads(), "cuda": torch.version.cuda}
        if torch.cuda.is_available():
            for index in range(torch.cuda.device_count()):
                free, total = torch.cuda.mem_get_info(index)
                name = torch.cuda.get_device_name(index)
                found["devices"].append({"name": name, "free": int(free), "total": int(total)})
    except Exception as error:
        found["torch_error"] = f"{type(error).__name__}: {error}"
    try:
        import torchvision

        found["torchvision"] = torchvision.__version__
    except Exception as error:
        found["torchvision_error"] = f"{type(error).__name__}: {error}"
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(told()) + "\n")
