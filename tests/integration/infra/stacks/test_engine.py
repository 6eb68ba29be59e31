"""Tidemill's resource types enter ministack's engine only while it has the shape that they are made for."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from tidemill_local.errors import EngineChanged
from tidemill_local.stacks.engine import Engine

PACKAGE = "ministack.services.cloudformation"


def test_the_installed_ministack_has_the_shape_that_stacks_need() -> None:
    Engine()


@pytest.mark.parametrize(
    ("module", "name", "other", "told"),
    [
        ("provisioners", "_RESOURCE_HANDLERS", (), "provisioners._RESOURCE_HANDLERS is no table"),
        ("stacks", "_runs_on_worker_thread", lambda: False, "stacks._runs_on_worker_thread does not take"),
        ("custom_resource", "register_token", None, "custom_resource.register_token does not take (token)"),
    ],
)
def test_a_ministack_of_another_shape_is_refused_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, module: str, name: str, other: Any, told: str
) -> None:
    monkeypatch.setattr(importlib.import_module(f"{PACKAGE}.{module}"), name, other)
    with pytest.raises(EngineChanged) as refused:
        Engine()
    assert told in str(refused.value)
    assert "install the version that Tidemill's package asks for" in str(refused.value)
