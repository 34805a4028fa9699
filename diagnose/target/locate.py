"""From ``package.module:attribute`` or ``path/to/file.py:attribute`` to the object."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from diagnose.errors import UsageError
from diagnose.near_miss import did_you_mean
from diagnose.user_code import user_code
from diagnose.worker.isolation import import_user_paths


@dataclass(frozen=True)
class Located:
    """``value`` is the attribute; ``label`` names it in messages ("get_model of models.py")."""

    module: ModuleType
    name: str
    value: Any
    label: str


def locate(reference: str, what: str, cwd: Path) -> Located:
    """Import the module of ``reference`` and take the attribute. ``what``: the flag, or "target", for messages.

    Raises UsageError where the module, file or attribute does not exist; UserCodeError where importing it raises.
    """
    place, colon, attribute = reference.rpartition(":")
    if not colon or not place or not attribute:
        raise UsageError(f"{what}: got {reference!r}, expected module:attribute or path/to/file.py:attribute.")
    is_file = place.endswith(".py") or "/" in place or "\\" in place
    module = _import_file(place, what, cwd) if is_file else _import_module(place, what, cwd)
    file = Path(getattr(module, "__file__", None) or place).name if is_file else place
    return Located(module, attribute, _attribute(module, attribute, file, what), f"{attribute} of {file}")


def _import_file(place: str, what: str, cwd: Path) -> ModuleType:
    path = (cwd / place).resolve()
    if not path.is_file():
        beside = [file.name for file in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise UsageError(f"{what}: there is no file {place}.{did_you_mean(path.name, beside)}")
    root, name = path.parent, path.stem
    while (root / "__init__.py").is_file():  # inside a package, whose relative imports must work
        root, name = root.parent, f"{root.name}.{name}"
    for folder in (root, cwd, path.parent):
        import_user_paths(folder)
    with user_code(f"importing {place}"):
        module = importlib.import_module(name)
    found = getattr(module, "__file__", None)
    if found is None or Path(found).resolve() != path:
        raise UsageError(
            f"{what}: {place} is hidden by another module named {name} ({found or 'built-in'}); rename the file."
        )
    return module


def _import_module(name: str, what: str, cwd: Path) -> ModuleType:
    import_user_paths(cwd)
    importlib.invalidate_caches()
    try:
        with user_code(f"importing {name}"):
            return importlib.import_module(name)
    except Exception as error:
        missing = getattr(getattr(error, "original", None), "name", None)
        is_absent = isinstance(getattr(error, "original", None), ModuleNotFoundError)
        if not is_absent or not missing or not f"{name}.".startswith(f"{missing}."):
            raise
    raise UsageError(
        f"{what}: there is no module {missing}.{did_you_mean(missing, _modules(cwd))} Modules are looked for in the "
        "current folder and among the installed packages."
    )


def _modules(cwd: Path) -> list[str]:
    files = [path.stem for path in cwd.glob("*.py")]
    packages = [path.parent.name for path in cwd.glob("*/__init__.py")]
    return [*files, *packages]


def _attribute(module: ModuleType, attribute: str, file: str, what: str) -> Any:
    value: Any = module
    for part in attribute.split("."):
        try:
            value = getattr(value, part)
        except AttributeError:
            near = did_you_mean(part, [name for name in dir(value) if not name.startswith("__")])
            has = "" if near else _offers(value)
            raise UsageError(f"{what}: {file} has no attribute {part!r}.{near}{has}") from None
    return value


def _offers(owner: object) -> str:
    own = [
        name
        for name, value in vars(owner).items()
        if callable(value)
        and not name.startswith("_")
        and getattr(value, "__module__", None) == getattr(owner, "__name__", "")
    ]
    return f" It defines {', '.join(own[:8])}." if own else ""
