"""A handler is found in its file's source, whatever binds it, and the file is never run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidemill_functions.code.handlers import check_handler
from tidemill_functions.errors import InvalidFunction


@pytest.mark.parametrize(
    "source",
    [
        "def handler(event, context): ...",
        "async def handler(event, context): ...",
        "class handler: ...",
        "handler = lambda event, context: event",
        "first, handler = 1, print",
        "handler: object = print",
        "from app import handler",
        "import app as handler",
        "from somewhere import *",
        "def __getattr__(name): ...",
        "try:\n    import handler\nexcept ImportError:\n    pass",
        "if True:\n    with open('x') as handler: pass",
        "for handler in (): pass",
        "print(handler := print)",
        "raise SystemExit\ndef handler(event, context): ...",
    ],
)
def test_whatever_binds_the_name_defines_the_handler(tmp_path: Path, source: str) -> None:
    (tmp_path / "orders.py").write_text(source)
    check_handler(tmp_path, "orders.handler")


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (
            "def handle(e, c): ...\nasync def other(): ...\nclass Order: ...",
            "orders.py defines no handler 'handler'; its functions are handle, other. Did you mean handle?",
        ),
        ("x = 1", "orders.py defines no handler 'handler'; it defines no function."),
        ("def outer():\n    def handler(): ...", "its functions are outer."),
        ("x = [handler for handler in ()]", "it defines no function."),
        ("class Orders:\n    def handler(self): ...", "it defines no function."),
        ("def handler(:", "orders.py is not valid Python: "),
        ("x = '\0'", "orders.py is not valid Python: "),
    ],
)
def test_what_the_file_defines_is_named(tmp_path: Path, source: str, sentence: str) -> None:
    (tmp_path / "orders.py").write_text(source)
    with pytest.raises(InvalidFunction) as raised:
        check_handler(tmp_path, "orders.handler")
    assert sentence in str(raised.value)


@pytest.mark.parametrize("handler", ["app/orders.handler", "app.orders.handler", "package.handler"])
def test_modules_are_found_as_lambda_finds_them(tmp_path: Path, handler: str) -> None:
    for file in ("app/orders.py", "package/__init__.py"):
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).write_text("def handler(event, context): ...")
    check_handler(tmp_path, handler)


def test_a_module_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidFunction, match="holds no module 'app/orders' for the handler"):
        check_handler(tmp_path, "app/orders.handler")
