"""Owns the registered functions and their code on disk; survives kill -9 at any instant.

One JSON file a function, replaced atomically; code is in place before the file that names it is. Knows
nothing of processes and HTTP. Every change makes a new `Function` object: `is` tells whether one is stale.

    functions/NAME.json   functions/NAME:1.json   code/NAME/ID/   code/NAME/ID.zip   attached/NAME.json
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import logging
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from tidemill_functions.code.archive import make_read_only, remove_tree, unpack
from tidemill_functions.code.attached import AttachedStore
from tidemill_functions.code.documents import remove_document, remove_drafts, write_document
from tidemill_functions.code.layers import LayerStore
from tidemill_functions.code.logging_config import LoggingConfig, logging_config
from tidemill_functions.code.sources import fingerprint
from tidemill_functions.errors import FunctionExists, FunctionNotFound, InvalidFunction

logger = logging.getLogger(__name__)

LOCAL_RUNTIME: Final = f"python{sys.version_info.major}.{sys.version_info.minor}"
LATEST: Final = "$LATEST"


@dataclass(frozen=True, slots=True, kw_only=True)
class ZipCode:
    """Code from a zip, unpacked in a folder of ours."""

    id: str
    sha256: str  # base64, as Lambda's CodeSha256
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalCode:
    """Code that runs in place, from a folder of the user's; edits are picked up."""

    folder: str
    python: str = (
        ""  # the interpreter of its project; "" is one of our own version without a project's packages
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Function:
    """One function as configured; compared by identity, for a changed one is another object."""

    name: str
    arn: str
    handler: str
    code: ZipCode | LocalCode
    runtime: str = LOCAL_RUNTIME
    runtime_note: str = ""  # how this machine departs from the runtime, where it does
    timeout_s: int = 3  # Lambda's defaults
    memory_mb: int = 128
    environment: Mapping[str, str] = field(default_factory=dict)
    # Configuration by Lambda's member names that is answered as given and has no effect on one machine.
    echoed: Mapping[str, Any] = field(default_factory=dict)
    layers: Sequence[Mapping[str, Any]] = ()  # Lambda's Arn and CodeSize, in order
    version: str = LATEST
    revision_id: str = ""
    last_modified_ms: int = 0

    @property
    def key(self) -> str:
        """Return what the registry knows it by: its name, with the number of a published version."""
        return self.name if self.version == LATEST else f"{self.name}:{self.version}"

    @property
    def logging(self) -> LoggingConfig:
        """Return how it logs."""
        return logging_config(self.name, self.echoed.get("LoggingConfig"))


class Registry:
    """The functions by their keys, and what hangs on them by their names."""

    def __init__(self, data_dir: Path, *, region: str, account_id: str) -> None:
        self._documents = data_dir / "functions"
        self._code = data_dir / "code"
        self._arn_prefix = f"arn:aws:lambda:{region}:{account_id}:function:"
        self._documents.mkdir(parents=True, exist_ok=True)
        self._code.mkdir(parents=True, exist_ok=True)
        self.attached = AttachedStore(data_dir / "attached")
        self.layers = LayerStore(data_dir, f"arn:aws:lambda:{region}:{account_id}:layer:")
        self._functions: dict[str, Function] = {}
        self._fingerprints: dict[str, int] = {}
        for document in sorted(self._documents.glob("*.json")):
            self._load(document)
        self._remove_orphans()

    def get(self, key: str) -> Function | None:
        """Return the function or published version of this key, or None."""
        return self._functions.get(key)

    def all(self) -> Sequence[Function]:
        """Return all functions by name, without their published versions."""
        found = [function for function in self._functions.values() if function.version == LATEST]
        return sorted(found, key=lambda function: function.name)

    def versions(self, name: str) -> Sequence[Function]:
        """Return the published versions of a function, lowest first."""
        found = [f for f in self._functions.values() if f.name == name and f.version != LATEST]
        return sorted(found, key=lambda function: int(function.version))

    def arn(self, key: str) -> str:
        """Return the ARN that a function of this key has or would have."""
        return self._arn_prefix + key

    def create(self, name: str, **configuration: Any) -> Function:
        """Register a new function with these fields of `Function`. Raises FunctionExists."""
        if name in self._functions:
            raise FunctionExists(name)
        return self._put(Function(name=name, arn=self.arn(name), **configuration))

    def replace(self, name: str, **changes: Any) -> Function:
        """Change these fields of a function. Raises FunctionNotFound."""
        if name not in self._functions:
            raise FunctionNotFound(self.arn(name))
        return self._put(dataclasses.replace(self._functions[name], **changes))

    def publish(self, name: str, description: str | None = None) -> Function:
        """Keep a function as it is now under the next number, unless the last version is the same.

        Raises FunctionNotFound.
        """
        latest = self._functions.get(name)
        if latest is None:
            raise FunctionNotFound(self.arn(name))
        echoed = latest.echoed if description is None else {**latest.echoed, "Description": description}
        published = self.versions(name)
        if published and _is_same(published[-1], latest):
            return published[-1]
        number = self.attached.get(name).versions + 1
        self.attached.put(name, versions=number)
        key = f"{name}:{number}"
        return self._put(dataclasses.replace(latest, version=str(number), arn=self.arn(key), echoed=echoed))

    def delete(self, key: str) -> Function:
        """Forget a function or a version; its code goes when `release` is called.

        Versions are to be deleted before their function. Raises FunctionNotFound.
        """
        if key not in self._functions:
            raise FunctionNotFound(self.arn(key))
        remove_document(self._documents / f"{key}.json")
        self._fingerprints.pop(key, None)
        deleted = self._functions.pop(key)
        if deleted.version == LATEST:
            self.attached.remove(deleted.name)
        return deleted

    def store_zip(self, name: str, zipped: bytes) -> ZipCode:
        """Unpack a zip for a function of this name; blocks, so call it in a thread. Raises InvalidArchive."""
        code = ZipCode(
            id=uuid.uuid4().hex,
            sha256=base64.b64encode(hashlib.sha256(zipped).digest()).decode(),
            size_bytes=len(zipped),
        )
        unpack(zipped, self._code / name / code.id)
        make_read_only(self._code / name / code.id)
        (self._code / name / f"{code.id}.zip").write_bytes(zipped)
        return code

    def folder(self, function: Function) -> Path:
        """Return where the function's code lies: its LAMBDA_TASK_ROOT."""
        if isinstance(function.code, LocalCode):
            return Path(function.code.folder)
        return self._code / function.name / function.code.id

    def opt(self, function: Function) -> Path | None:
        """Return the folder that stands for /opt; None for a function without layers."""
        return self.layers.opt(_arns(function))

    def zip_file(self, function: Function) -> Path | None:
        """Return the zip that the function was made from; None for code that runs in place."""
        if isinstance(function.code, LocalCode):
            return None
        return self._code / function.name / f"{function.code.id}.zip"

    def release(self, name: str, code: ZipCode | LocalCode) -> None:
        """Remove code that no process uses any more, unless a version of the function has it; blocks."""
        if isinstance(code, LocalCode):
            return
        if any(function.code == code for function in list(self._functions.values())):
            return
        # Not the folder around it: another zip for this name may be on its way into it.
        remove_tree(self._code / name / code.id)
        (self._code / name / f"{code.id}.zip").unlink(missing_ok=True)

    def reread(self, name: str) -> bool:
        """Look whether code that runs in place was edited; if so the function is a new object now."""
        function = self._functions.get(name)
        if function is None or not isinstance(function.code, LocalCode):
            return False
        before = self._fingerprints.get(name)
        now = self._fingerprints[name] = fingerprint(Path(function.code.folder))
        if before is None or before == now:
            return False
        self._functions[name] = dataclasses.replace(
            function, revision_id=str(uuid.uuid4()), last_modified_ms=time.time_ns() // 1_000_000
        )
        return True

    def _put(self, function: Function) -> Function:
        function = dataclasses.replace(
            function, revision_id=str(uuid.uuid4()), last_modified_ms=time.time_ns() // 1_000_000
        )
        write_document(self._documents / f"{function.key}.json", _to_document(function))
        self._functions[function.key] = function
        return function

    def _load(self, document: Path) -> None:
        try:
            function = _from_document(orjson.loads(document.read_bytes()))
            if function.key != document.stem:
                raise ValueError(f"it is the document of {function.key!r}")  # noqa: TRY301 - said below
            has_code = self.folder(function).is_dir()
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            # Kept as it is: a later version, or a human, may be able to read it.
            logger.error(  # noqa: TRY400 - the sentence says it all
                "function not loaded file=%s reason=%s: %s; restore a backup of the file,"
                " or remove it and register the function again",
                document,
                type(error).__name__,
                error,
            )
            return
        if not has_code:
            logger.error(
                "function without code function=%s folder=%s reason=the folder does not exist;"
                " restore it, or register the function again",
                function.key,
                self.folder(function),
            )
        # The ARN follows the account and region that the server has today.
        self._functions[function.key] = dataclasses.replace(function, arn=self.arn(function.key))

    def _remove_orphans(self) -> None:
        """Remove code that a crash left behind: unpacked, or replaced, and named by no function."""
        documents = {path.stem for path in self._documents.glob("*.json")}
        unread = {key.partition(":")[0] for key in documents - self._functions.keys()}
        kept = {f.code.id for f in self._functions.values() if isinstance(f.code, ZipCode)}
        for folder in self._code.iterdir():
            if folder.name in unread:
                continue
            for path in folder.iterdir():
                if path.name.removesuffix(".zip") not in kept:
                    remove_tree(path) if path.is_dir() else path.unlink()
            if folder.name not in self._functions:
                remove_tree(folder)
        remove_drafts(self._documents)
        # Killed between the two removals of a delete: the next function of this name must not get its policy.
        for name in self.attached.names() - {key.partition(":")[0] for key in documents}:
            self.attached.remove(name)
        if not unread:
            self.layers.remove_unused([_arns(function) for function in self._functions.values()])


def local_code(path: str, handler: str) -> tuple[LocalCode, str]:
    """Return the code and Lambda's handler ("module.function") for a path and a handler as users name them.

    `path` is a Python file with `handler` one of its functions, or a folder with a `handler` of the form
    "module.function". Raises InvalidFunction.
    """
    found = Path(path)
    if not found.is_absolute():
        raise InvalidFunction(f"{path!r} is a relative path: give the absolute one.")
    if found.is_dir():
        if "." not in handler:
            raise InvalidFunction(f"The handler {handler!r} names no module: write module.function.")
        return LocalCode(folder=str(found)), handler
    if not found.is_file():
        raise InvalidFunction(f"{path!r} does not exist: give the file or folder that holds the handler.")
    if found.suffix != ".py" or not found.stem.isidentifier():
        raise InvalidFunction(f"{path!r} is no Python module: give a file such as orders.py.")
    return LocalCode(folder=str(found.parent)), f"{found.stem}.{handler.removeprefix(f'{found.stem}.')}"


_PLAIN: Final[Mapping[str, type]] = {"str": str, "int": int, "dict[str, str]": dict}


def _arns(function: Function) -> Sequence[str]:
    return [layer["Arn"] for layer in function.layers]


def _to_document(function: Function) -> dict[str, Any]:
    return dataclasses.asdict(function)


def _from_document(document: dict[str, Any]) -> Function:
    code = document.pop("code")
    document["layers"] = tuple(document.get("layers", ()))
    document.pop("tags", None)  # of documents that were written before tags were attached
    function = Function(**document, code=LocalCode(**code) if "folder" in code else ZipCode(**code))
    for member in dataclasses.fields(function):
        if not isinstance(getattr(function, member.name), _PLAIN.get(str(member.type), object)):
            raise TypeError(f"{member.name} must be {member.type}")
    return function


def _is_same(version: Function, latest: Function) -> bool:
    """Return whether nothing that a version keeps has changed since it was published."""
    kept = ("handler", "code", "runtime", "timeout_s", "memory_mb", "environment", "layers")
    return all(getattr(version, name) == getattr(latest, name) for name in kept) and _without(
        version.echoed
    ) == _without(latest.echoed)


def _without(echoed: Mapping[str, Any]) -> dict[str, Any]:
    return {member: value for member, value in echoed.items() if member != "Description"}
