"""The broker's exceptions are one tree, and its drawing leaves none out."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator

import tidemill_broker
from tidemill_broker import errors
from tidemill_broker.errors import BrokerError

ROW = re.compile(r"^((?:│   )?)(?:├── |└── )(\w+) +(\S+) ", re.MULTILINE)


def raised_on_purpose() -> Iterator[type[BaseException]]:
    """Every exception that a module of the broker defines."""
    for module in pkgutil.walk_packages(tidemill_broker.__path__, "tidemill_broker."):
        for each in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(each) and issubclass(each, BaseException) and each.__module__ == module.name:
                yield each


def test_every_exception_of_the_broker_descends_from_one_root() -> None:
    assert [each for each in raised_on_purpose() if not issubclass(each, BrokerError)] == []


def test_the_drawing_names_every_exception_its_module_and_its_parent() -> None:
    drawn: dict[str, tuple[str, str]] = {}
    parent = "BrokerError"
    for indent, name, module in ROW.findall(errors.__doc__ or ""):
        drawn[name] = (module, parent if indent else "BrokerError")
        if not indent:
            parent = name
    real = {
        each.__name__: (each.__module__.removeprefix("tidemill_broker."), each.__bases__[0].__name__)
        for each in raised_on_purpose()
        if each is not BrokerError
    }
    assert drawn == real
