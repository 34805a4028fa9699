"""The schema of ``results.json``: validation, older versions, and the JSON Schema that is committed beside this file.

``python -m reports.schema`` rewrites the committed file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from probes.results import SCHEMA_VERSION, RunResults

if TYPE_CHECKING:
    from pydantic import TypeAdapter

SCHEMA_FILE = Path(__file__).with_name("results.schema.json")

T = TypeVar("T")
Upgrade = Callable[[dict[str, Any]], dict[str, Any]]

# version -> what turns data of that version into data of the next
UPGRADES: dict[int, Upgrade] = {}


class UnreadableRun(Exception):
    """The folder's results cannot be read; the message is one sentence that says why."""


def upgrade(data: Mapping[str, Any]) -> dict[str, Any]:
    """Bring the data of an older version to the present one."""
    current = dict(data)
    version = current.get("schema_version")
    if not isinstance(version, int) or isinstance(version, bool):
        raise UnreadableRun("The results have no schema_version: they are not from this tool, or damaged.")
    if version > SCHEMA_VERSION:
        raise UnreadableRun(
            f"The results are of schema version {version}, but this torch-diagnose reads up to {SCHEMA_VERSION}: "
            "upgrade torch-diagnose."
        )
    for step in range(version, SCHEMA_VERSION):
        if step not in UPGRADES:
            raise UnreadableRun(f"The results are of schema version {step}, which is no longer read: run again.")
        current = {**UPGRADES[step](current), "schema_version": step + 1}
    return current


def parse(data: Mapping[str, Any]) -> RunResults:
    """Validated results from JSON data of any version we know. Every list becomes a tuple."""
    return validate(RunResults, upgrade(data))


def validate(kind: type[T], data: Mapping[str, Any]) -> T:
    """One of the dataclasses of ``probes.results``. Raises UnreadableRun and names the field that does not fit."""
    from pydantic import ValidationError

    hashable: Any = kind
    try:
        valid: T = _adapter(hashable).validate_python(_tuples(data))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or kind.__name__
        raise UnreadableRun(f"The results do not fit the schema at {place}: {first['msg']}.") from error
    return valid


def json_schema() -> dict[str, Any]:
    """JSON Schema (Draft 2020-12) of ``results.json``."""
    schema = _adapter(RunResults).json_schema()
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "torch-diagnose results"}
    return {**schema, **head}


def schema_text() -> str:
    return json.dumps(json_schema(), indent=1, sort_keys=True) + "\n"


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter  # slow to import, and most commands need it once or never

    return TypeAdapter(kind)


def _tuples(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _tuples(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return tuple(_tuples(item) for item in value)
    return value


if __name__ == "__main__":
    SCHEMA_FILE.write_text(schema_text(), encoding="utf-8")
