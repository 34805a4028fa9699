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
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

OWN_PACKAGES = ("probes", "reports")
_ROOT = str(Path(__file__).resolve().parents[2])
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
    prefer_users_packages()
    _hide_main()


def prefer_users_packages() -> None:
    """From here on ``import probes`` looks everywhere else before it looks at ours.

    The order of ``sys.path`` alone does not do: a folder without ``__init__.py`` loses to any package further down.
    """
    if not any(isinstance(finder, _UsersFirst) for finder in sys.meta_path):
        sys.meta_path.insert(0, _UsersFirst())


class _UsersFirst(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is not None or fullname not in OWN_PACKAGES:
            return None
        elsewhere = [entry for entry in sys.path if str(Path(entry or ".").resolve()) != _ROOT]
        return PathFinder.find_spec(fullname, elsewhere)


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
        empty.__spec__ = find_spec("diagnose.worker.spawned")
        sys.modules["__main__"] = empty
