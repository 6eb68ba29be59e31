"""Checks that a module defines its handler, by reading its source; it never runs it.

Knows Python's syntax and the form of Lambda's handler names, nothing of functions. Called by the API.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from tidemill_functions.errors import InvalidFunction

_NAMES_MAX: Final = 10


def check_handler(folder: Path, handler: str) -> None:
    """Check that the file of a handler such as `app/orders.handle` defines it; blocks.

    A module that makes its names while it runs (a star import, a `__getattr__`) passes.
    Raises InvalidFunction with one sentence that names what the file defines.
    """
    module, _, name = handler.rpartition(".")
    file = _file_of(folder, module)
    if file is None:
        raise InvalidFunction(f"{folder} holds no module {module!r} for the handler {handler}.")
    try:
        tree = ast.parse(file.read_bytes(), filename=str(file))
    except (SyntaxError, ValueError, RecursionError) as error:
        raise InvalidFunction(f"{file} is not valid Python: {error}.") from None
    defined = set(_names(tree.body))
    if name not in defined and not defined & {"*", "__getattr__"}:
        raise InvalidFunction(_sentence(file.name, name, tree, defined))


def _file_of(folder: Path, module: str) -> Path | None:
    below = folder.joinpath(*module.replace("/", ".").split("."))
    candidates = (below / "__init__.py", below.with_name(f"{below.name}.py"))
    return next((file for file in candidates if file.is_file()), None)


def _sentence(file: str, name: str, tree: ast.Module, defined: set[str]) -> str:
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    shown = ", ".join(functions[:_NAMES_MAX]) + (", …" if len(functions) > _NAMES_MAX else "")
    near = get_close_matches(name, sorted(defined), n=1)
    return (
        f"{file} defines no handler {name!r}; "
        + (f"its functions are {shown}" if functions else "it defines no function")
        + (f". Did you mean {near[0]}?" if near else ".")
    )


def _names(body: Iterable[ast.stmt]) -> Iterator[str]:
    """Yield what these statements bind; `*` for a star import."""
    for statement in body:
        match statement:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield statement.name
            case ast.Import() | ast.ImportFrom():
                for alias in statement.names:
                    yield alias.asname or alias.name.partition(".")[0]
            case _:
                for node in ast.iter_child_nodes(statement):
                    yield from _bound(node)


def _bound(node: ast.AST) -> Iterator[str]:
    """Yield what a part of a statement binds: targets, and the blocks of if, try, with and for."""
    if isinstance(node, ast.stmt):
        yield from _names([node])
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif not isinstance(node, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
        for child in ast.iter_child_nodes(node):
            yield from _bound(child)
