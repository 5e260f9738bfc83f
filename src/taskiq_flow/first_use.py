"""Names of a package that are loaded when they are first used."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any


def loading(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make the ``__getattr__`` and the ``__dir__`` of a package, whose names have these homes.

    A home is the module that a name is imported from, as written under ``if TYPE_CHECKING:``. A
    name that has been used stays in the package, so that it is looked up once. It must not be the
    name of a module of the package too: that would take its place. The package's own modules are
    loaded the same way.
    """

    def load(name: str) -> Any:
        if name not in homes:
            if not name.startswith("_") and find_spec(f"{package}.{name}") is not None:
                return import_module(f"{package}.{name}")
            # Loaded only now: it needs our exceptions, they need Taskiq, and that takes long.
            import_module("taskiq_flow.not_shipped").refusing(package)(name)
        value = getattr(import_module(homes[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return load, names
