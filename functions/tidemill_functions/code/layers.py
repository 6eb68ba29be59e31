"""Owns published layer versions and the folders that stand for a function's /opt.

A version is a zip and a document; they do not change. The layers of a function are unpacked over one another,
in its order, into one folder that outlives the versions, as on Lambda. Knows nothing of functions.

    layers/NAME/1.json   layers/NAME/1.zip   layers/NAME/1.policy   opt/ID/
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import logging
import shutil
import tempfile
import time
import uuid
import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from tidemill_functions.code.archive import make_read_only, remove_tree, unpack
from tidemill_functions.code.documents import remove_document, remove_drafts, write_bytes, write_document

logger = logging.getLogger(__name__)

_NUMBERS_END: Final = 10**9  # a caller's may have more digits than a file's name


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerVersion:
    """One version of a layer."""

    name: str
    number: int
    sha256: str  # base64
    size_bytes: int
    created_s: float
    # Description, CompatibleRuntimes and other members that are answered as given.
    echoed: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerPolicy:
    """Who may use a version, by statements as Lambda writes them."""

    statements: Sequence[Mapping[str, Any]] = ()
    revision_id: str = ""


class LayerStore:
    """The layers by name. Methods that take or give zips block; the others read a small file or two."""

    def __init__(self, data_dir: Path, arn_prefix: str) -> None:
        self._layers = data_dir / "layers"
        self._opt = data_dir / "opt"
        self._arn_prefix = arn_prefix
        self._reported: set[Path] = set()
        self._layers.mkdir(parents=True, exist_ok=True)
        self._opt.mkdir(parents=True, exist_ok=True)
        for layer in self._layers.iterdir():
            remove_drafts(layer)
        for name in self.names():
            self.versions(name)

    def publish(self, name: str, zipped: bytes, echoed: Mapping[str, Any]) -> LayerVersion:
        """Keep a zip under the next number; blocks. Raises InvalidArchive."""
        with tempfile.TemporaryDirectory(dir=self._opt) as trial:
            unpack(zipped, Path(trial) / "layer")
        folder = self._layers / name
        folder.mkdir(exist_ok=True)
        # A number is never given again: the document of a deleted version stays, without its zip.
        number = 1 + max((*_numbers(folder, "json"), *_numbers(folder, "zip")), default=0)
        version = LayerVersion(
            name=name,
            number=number,
            sha256=base64.b64encode(hashlib.sha256(zipped).digest()).decode(),
            size_bytes=len(zipped),
            created_s=time.time(),
            echoed=echoed,
        )
        # The zip makes it a version: killed before that, the number is that of a deleted one.
        write_document(folder / f"{number}.json", dataclasses.asdict(version))
        write_bytes(folder / f"{number}.zip", zipped)
        return version

    def get(self, name: str, number: int) -> LayerVersion | None:
        """Return a version that is not deleted, or None; also for one whose document is damaged."""
        if number >= _NUMBERS_END or not self.zip_file(name, number).is_file():
            return None
        document = self._layers / name / f"{number}.json"
        try:
            return _version(orjson.loads(document.read_bytes()), name, number)
        except (OSError, ValueError, TypeError) as error:
            self._report(
                document,
                error,
                "the version is not listed, and functions that have it keep it: restore a backup of the file,"
                " or publish the layer again",
            )
            return None

    def versions(self, name: str) -> Sequence[LayerVersion]:
        """Return the versions of a layer, newest first."""
        numbers = sorted(_numbers(self._layers / name, "zip"), reverse=True)
        return [version for number in numbers if (version := self.get(name, number)) is not None]

    def names(self) -> Sequence[str]:
        """Return the names of all layers that have a version."""
        return sorted(folder.name for folder in self._layers.iterdir() if any(folder.glob("*.zip")))

    def delete(self, name: str, number: int) -> None:
        """Forget a version and its policy; functions that have it keep it."""
        if number < _NUMBERS_END:
            remove_document(self._policy_file(name, number))
            self.zip_file(name, number).unlink(missing_ok=True)

    def policy(self, version: LayerVersion) -> LayerPolicy:
        """Return the policy of a version; that of a version without one has no statements."""
        path = self._policy_file(version.name, version.number)
        try:
            return LayerPolicy(**orjson.loads(path.read_bytes())) if path.exists() else LayerPolicy()
        except (OSError, ValueError, TypeError) as error:
            self._report(
                path, error, "the version has no policy: restore a backup of the file, or set it again"
            )
            return LayerPolicy()

    def put_policy(self, version: LayerVersion, statements: Sequence[Mapping[str, Any]]) -> LayerPolicy:
        """Replace the policy of a version, under a new revision."""
        policy = LayerPolicy(statements=statements, revision_id=str(uuid.uuid4()))
        write_document(self._policy_file(version.name, version.number), dataclasses.asdict(policy))
        return policy

    def _report(self, file: Path, error: Exception, fix: str) -> None:
        if file not in self._reported:
            self._reported.add(file)
            logger.error(
                "layer version not loaded file=%s reason=%s: %s; %s", file, type(error).__name__, error, fix
            )

    def _policy_file(self, name: str, number: int) -> Path:
        return self._layers / name / f"{number}.policy"

    def zip_file(self, name: str, number: int) -> Path:
        """Return where the zip of a version lies."""
        return self._layers / name / f"{number}.zip"

    def arn(self, name: str, number: int | None = None) -> str:
        """Return the ARN of a layer, or of one version."""
        return f"{self._arn_prefix}{name}" if number is None else f"{self._arn_prefix}{name}:{number}"

    def parsed(self, arn: str) -> tuple[str, int] | None:
        """Return the name and number in the ARN of one of our versions; None for another's."""
        name, _, number = arn.removeprefix(self._arn_prefix).partition(":")
        return (name, int(number)) if arn.startswith(self._arn_prefix) and number.isdigit() else None

    def extensions(self, version: LayerVersion) -> Sequence[str]:
        """Return the names of the extensions in a version, which Lambda would run; blocks."""
        with zipfile.ZipFile(self.zip_file(version.name, version.number)) as archive:
            paths = [name.split("/") for name in archive.namelist()]
        return sorted(path[1] for path in paths if len(path) == 2 and path[0] == "extensions" and path[1])  # noqa: PLR2004 - a file in that folder

    def prepare(self, versions: Sequence[LayerVersion]) -> None:
        """Make the folder of these layers unless it is there; blocks."""
        folder = self.opt([self.arn(version.name, version.number) for version in versions])
        if folder is None or folder.is_dir():
            return
        with tempfile.TemporaryDirectory(dir=self._opt) as draft:
            merged = Path(draft) / "opt"
            merged.mkdir()
            for place, version in enumerate(versions):
                unpack(self.zip_file(version.name, version.number).read_bytes(), Path(draft) / str(place))
                shutil.copytree(Path(draft) / str(place), merged, dirs_exist_ok=True)
            merged.rename(folder)
        make_read_only(folder)

    def opt(self, arns: Sequence[str]) -> Path | None:
        """Return the folder that stands for /opt with these layers; None without any."""
        return self._opt / hashlib.sha256("\n".join(arns).encode()).hexdigest()[:32] if arns else None

    def remove_unused(self, used: Collection[Sequence[str]]) -> None:
        """Remove the folders that stand for /opt of no function."""
        kept = {self.opt(arns) for arns in used}
        for folder in self._opt.iterdir():
            if folder not in kept:
                remove_tree(folder)


def _numbers(folder: Path, suffix: str) -> list[int]:
    return [int(path.stem) for path in folder.glob(f"*.{suffix}") if path.stem.isdecimal()]


def _version(document: Any, name: str, number: int) -> LayerVersion:
    """Return what a document says. Raises TypeError or ValueError if it is damaged."""
    version = LayerVersion(**document)
    kinds = {"sha256": str, "size_bytes": int, "created_s": float, "echoed": dict}
    for member, kind in kinds.items():
        if not isinstance(getattr(version, member), kind):
            raise TypeError(f"{member} must be {kind.__name__}")
    if (version.name, version.number) != (name, number):
        raise ValueError(f"it is the document of {version.name}:{version.number}")
    return version
