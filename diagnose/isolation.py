"""The user's own ``probes`` or ``reports`` must win for the user's imports, in spawned loader workers too.

A process that runs user code goes through three steps, in this order:

1. ``own_packages_first()``, then import everything of ours;
2. ``hide_own_packages()``; from here on nothing of ours may import ``probes`` or ``reports``, nor pickle their objects
   (what crosses a process boundary is JSON);
3. ``import_user_paths(folder)``; user code is imported after that.

A loader worker that is spawned inherits ``sys.path`` and unpickles the dataset. What of ours it may unpickle lives
in modules that import neither of them: ``diagnose.pipeline``, ``diagnose.batches``, ``diagnose.datasets``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

OWN_PACKAGES = ("probes", "reports")
_ROOT = str(Path(__file__).resolve().parent.parent)
_hidden: dict[str, ModuleType] = {}  # keeps the modules alive that sys.modules no longer holds
_state = {"joined": False}


def own_packages_first() -> None:
    """Make ``import probes`` find ours even where the current folder has one too (as ``python -m`` would have it)."""
    if sys.path[:1] != [_ROOT]:
        sys.path.insert(0, _ROOT)
        _state["joined"] = True
    for name in _loaded_own_names():
        origin = getattr(sys.modules[name], "__file__", None)
        if origin is not None and not Path(origin).resolve().is_relative_to(_ROOT):
            del sys.modules[name]


def hide_own_packages() -> None:
    """Take ``probes`` and ``reports`` out of ``sys.modules``; code that holds references to them goes on working."""
    if _state["joined"] and _ROOT in sys.path:
        sys.path.remove(_ROOT)
        _state["joined"] = False
    for name in _loaded_own_names():
        _hidden[name] = sys.modules.pop(name)
    _hide_main()


def import_user_paths(folder: str | Path) -> None:
    """Put ``folder`` first among the places that ``import`` looks in."""
    path = str(Path(folder).resolve())
    sys.path[:] = [path, *(entry for entry in sys.path if entry != path)]


def _loaded_own_names() -> list[str]:
    return [name for name in sys.modules if name.partition(".")[0] in OWN_PACKAGES]


def _hide_main() -> None:
    # A spawned child runs the parent's main module again under another name. Ours would import `probes` there, and
    # would be given the user's. An empty main module has nothing to run again.
    main = sys.modules["__main__"]
    if "__main__" not in _hidden:
        _hidden["__main__"] = main
        empty = ModuleType("__main__")
        empty.__spec__ = None
        sys.modules["__main__"] = empty
