"""Brings AWS's runtime client for Java: its jars, each checked by its SHA-256, and its native library.

They come from Maven's local repository where they lie there, else by `mvn`, once for a data directory. Knows
jars, nothing of functions.

See docs/decisions/0405.
"""

from __future__ import annotations

import contextlib
import hashlib
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from tidemill_functions.errors import InvalidFunction

MAIN_CLASS: Final = "com.amazonaws.services.lambda.runtime.api.client.AWSLambda"
_FETCH_S: Final = 300.0
_CLIENT: Final = "aws-lambda-java-runtime-interface-client"


class Artifact(NamedTuple):
    """One jar of Maven Central."""

    group: str
    name: str
    version: str
    sha256: str

    @property
    def file(self) -> str:
        """Return the jar's name."""
        return f"{self.name}-{self.version}.jar"


# The client and what it requires, in the order of the class path that the client's own manifest has.
ARTIFACTS: Final = (
    Artifact(
        "com.amazonaws",
        _CLIENT,
        "2.10.1",
        "b0dd01f45b7258da0e32ade0bff950b12d0cf279ccebf416ad8c3795af21f1db",
    ),
    Artifact(
        "com.amazonaws",
        "aws-lambda-java-core",
        "1.4.0",
        "575c24393cc1ad645e83e618956eabd89ffe8cc09efae2cb62bc6589154d68ed",
    ),
    Artifact(
        "com.amazonaws",
        "aws-lambda-java-serialization",
        "1.2.0",
        "1513c1f945a3213f916a4b2de1760c97b51d84d110f82bbbcf9cfac53d5651e7",
    ),
    Artifact(
        "software.amazon.awssdk",
        "utils-lite",
        "2.34.0",
        "efaf784f07ae526f0b5c89d71ef21cf16636131c47d44616e3df9bedc3f4f89a",
    ),
    Artifact(
        "software.amazon.awssdk",
        "annotations",
        "2.34.0",
        "fafdcb55f4e5af603f5219f4a2b080aa0decb562a7c0944f7a7eca82dd47e487",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """What a JVM needs to run a handler."""

    jars: tuple[str, ...]
    library: str  # the native library, which the client would else unpack to a file that all JVMs share


class ClientStore:
    """The client of one data directory. Safe in threads; `get` blocks, the first time for Maven."""

    def __init__(self, folder: Path, named: Path | None, environ: Mapping[str, str]) -> None:
        self._folder = folder
        self._named = named
        self._environ = environ
        self._lock = threading.Lock()
        self._client: Client | None = None

    def get(self) -> Client:
        """Return the client. Raises InvalidFunction with the fix if it cannot be brought here."""
        with self._lock:
            if self._client is None or not Path(self._client.library).is_file():
                self._client = self._make()
            return self._client

    def _make(self) -> Client:
        machine = {"x86_64": "x86_64", "aarch64": "aarch_64"}.get(platform.machine())
        if sys.platform != "linux" or machine is None:
            raise InvalidFunction(
                "AWS's runtime client for Java needs Linux on x86_64 or aarch64: run Tidemill in a container."
            )
        jars = self._named_jars() if self._named is not None else self._brought_jars()
        libc = "linux" if platform.libc_ver()[0] == "glibc" else "linux_musl"
        library = self._folder / f"libaws-lambda-jni.{libc}-{machine}.so"
        _extract(jars[0], f"jni/{library.name}", library)
        return Client(jars=tuple(map(str, jars)), library=str(library))

    def _named_jars(self) -> list[Path]:
        """Return the jars of the folder that a setting names, the client first; they are not checked."""
        assert self._named is not None
        jars = sorted(self._named.glob("*.jar"), key=lambda jar: (not jar.name.startswith(_CLIENT), jar.name))
        if not jars or not jars[0].name.startswith(_CLIENT):
            raise InvalidFunction(
                f"TIDEMILL_FUNCTIONS_JAVA_CLIENT names {self._named}, which holds no {_CLIENT}-*.jar: put it "
                "there, with the jars that it requires."
            )
        return jars

    def _brought_jars(self) -> list[Path]:
        jars = [self._folder / artifact.file for artifact in ARTIFACTS]
        if not all(_is_whole(self._folder, artifact) for artifact in ARTIFACTS):
            with tempfile.TemporaryDirectory(prefix="tidemill-java-") as fetched:
                source = self._local_repository() or self._fetch(Path(fetched))
                self._keep(source)
        return jars

    def _keep(self, source: Mapping[Artifact, Path]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        for artifact, path in source.items():
            draft = self._folder / f".{artifact.file}"
            shutil.copyfile(path, draft)
            draft.chmod(0o644)  # for handlers with a user of their own
            draft.replace(self._folder / artifact.file)
            if not _is_whole(self._folder, artifact):
                (self._folder / artifact.file).unlink()
                raise InvalidFunction(
                    f"{artifact.file} is not the jar that was expected (SHA-256 {artifact.sha256}): "
                    "remove it from Maven's local repository and try again."
                )

    def _local_repository(self) -> Mapping[Artifact, Path] | None:
        """Return where the jars lie in Maven's local repository, if all do."""
        root = Path(self._environ.get("HOME") or "/") / ".m2/repository"
        found = {
            artifact: root.joinpath(
                *artifact.group.split("."), artifact.name, artifact.version, artifact.file
            )
            for artifact in ARTIFACTS
        }
        whole = all(_is_whole(path.parent, artifact) for artifact, path in found.items())
        return found if whole else None

    def _fetch(self, folder: Path) -> Mapping[Artifact, Path]:
        """Have Maven fetch the jars into this folder."""
        (folder / "pom.xml").write_text(_pom())
        maven = shutil.which("mvn", path=self._environ.get("PATH"))
        if maven is None:
            raise InvalidFunction(_missing("Maven (mvn) is not installed"))
        command = [maven, "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={folder}"]
        try:
            done = subprocess.run(  # noqa: S603 - the user's own Maven, no shell
                command, cwd=folder, capture_output=True, text=True, timeout=_FETCH_S, check=False
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise InvalidFunction(_missing(f"Maven did not run: {error}")) from None
        if done.returncode != 0:
            reason = next((line for line in done.stdout.splitlines() if line.startswith("[ERROR]")), "")
            raise InvalidFunction(_missing(f"Maven could not fetch it ({reason[:200]})"))
        return {artifact: folder / artifact.file for artifact in ARTIFACTS}


def _missing(why: str) -> str:
    return (
        f"Java functions run under AWS's {_CLIENT} {ARTIFACTS[0].version}, and {why}: install Maven and "
        "connect once, or name a folder with the client's jars in TIDEMILL_FUNCTIONS_JAVA_CLIENT."
    )


def _pom() -> str:
    everything = (
        "<exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions>"
    )
    rows = "".join(
        f"<dependency><groupId>{artifact.group}</groupId><artifactId>{artifact.name}</artifactId>"
        f"<version>{artifact.version}</version>{everything}</dependency>"
        for artifact in ARTIFACTS
    )
    return (
        "<project><modelVersion>4.0.0</modelVersion><groupId>tidemill</groupId><artifactId>client</artifactId>"
        f"<version>1</version><dependencies>{rows}</dependencies></project>"
    )


def _is_whole(folder: Path, artifact: Artifact) -> bool:
    with contextlib.suppress(OSError):
        return hashlib.sha256((folder / artifact.file).read_bytes()).hexdigest() == artifact.sha256
    return False


def _extract(jar: Path, member: str, target: Path) -> None:
    """Write a member of the jar to a file, whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}")
    try:
        with zipfile.ZipFile(jar) as archive:
            draft.write_bytes(archive.read(member))
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise InvalidFunction(f"{jar} is no {_CLIENT} for this machine: {error}.") from None
    draft.chmod(0o755)
    draft.replace(target)
