"""Decides by which `java` a Java function runs, and how a JVM is started for it.

Newer JVMs run what was compiled for older ones, so the nearest that is not older than the function's Runtime
runs it. Knows JVMs and their options; the runtime client itself is client.py's.
"""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from tidemill_functions.code.registry import Function
from tidemill_functions.errors import InvalidFunction
from tidemill_functions.runtimes.java.client import MAIN_CLASS, ClientStore
from tidemill_functions.runtimes.runtime import Launch
from tidemill_functions.settings import Settings

NAMES: Final = ("java17", "java21", "java25")
SYSTEM_FOLDER: Final = Path("/usr/lib/jvm")
_ASKED_S: Final = 20.0
_VERSION: Final = re.compile(r'version "((\d+)[\d.]*)')
_NATIVE_CLIENT: Final = "com.amazonaws.services.lambda.runtime.api.client.runtimeapi.NativeClient.JNI"
# Lambda's own: a small heap of one collector and quick starts; https://docs.aws.amazon.com/lambda/latest/dg/
# java-customization.html names tiered compilation, stopped at level 1, as the default since Java 17.
_OPTIONS: Final = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")
_HEAP: Final = 0.85  # of the function's memory
_NATIVE_ACCESS: Final = 22  # since then a JVM warns of native libraries that no option allows
# The folder of temporary files is known to the process alone.
_SHELL: Final = (
    'java=$1; shift; exec "$java" "-Djava.io.tmpdir=$TMPDIR" "-XX:ErrorFile=$TMPDIR/hs_err_%p.log" "$@"'
)


class Jvm(NamedTuple):
    """One `java` program."""

    major: int
    version: str
    path: str

    def __str__(self) -> str:
        """Return it as a sentence names it."""
        return f"{self.version} ({self.path})"


class JavaRuntime:
    """The rows of NAMES."""

    def __init__(self, folder: Path, settings: Settings, environ: Mapping[str, str] = os.environ) -> None:
        self._named = settings.java
        self._environ = environ
        self._client = ClientStore(folder, settings.java_client, environ)
        self._lock = threading.Lock()
        self._found: dict[str, Jvm] = {}

    def check(self, name: str) -> str:
        """Return which Java runs it if it is another. Raises InvalidFunction without one or the client."""
        jvm = self._jvm(name)
        self._client.get()
        return "" if jvm.major == _major(name) else f"{name} is run by Java {jvm}, the nearest found"

    def launch(self, function: Function, task_root: Path, opt: Path | None) -> Launch:
        """Return the start of a JVM. Raises InvalidFunction if its `java` has gone."""
        jvm, client = self._jvm(function.runtime), self._client.get()
        options = [
            *_OPTIONS,
            f"-Xmx{int(function.memory_mb * _HEAP)}m",
            f"-D{_NATIVE_CLIENT}={client.library}",
        ]
        if jvm.major >= _NATIVE_ACCESS:
            options.append("--enable-native-access=ALL-UNNAMED")
        paths = os.pathsep.join([*client.jars, *class_path(task_root, opt)])
        java = (jvm.path, *options, "-cp", paths, MAIN_CLASS, function.handler)
        home = Path(jvm.path).resolve().parent.parent
        return Launch(
            command=("/bin/sh", "-c", _SHELL, "sh", *java),
            version=f"java:{jvm.version}",
            needs=(home, Path(client.library), *map(Path, client.jars)),
        )

    def _jvm(self, name: str) -> Jvm:
        with self._lock:
            found = self._found.get(name)
            if found is None or not Path(found.path).is_file():
                found = self._found[name] = choose(name, find_jvms(self._named, self._environ))
        return found


def choose(name: str, jvms: Iterable[Jvm]) -> Jvm:
    """Return the first JVM of the runtime's own version, else the nearest newer one.

    Raises InvalidFunction with what there is if all are older.
    """
    asked, found = _major(name), []
    for jvm in jvms:
        if jvm.major == asked:
            return jvm
        found.append(jvm)
    newer = [jvm for jvm in found if jvm.major > asked]
    if newer:
        return min(newer, key=lambda jvm: jvm.major)
    raise InvalidFunction(
        f"The runtime {name} needs Java {asked} or newer, and this machine has "
        f"{', '.join(map(str, found)) or 'none'}: install it, or name its program in TIDEMILL_FUNCTIONS_JAVA."
    )


def find_jvms(named: Path | None, environ: Mapping[str, str]) -> Iterator[Jvm]:
    """Yield what runs: the one named, JAVA_HOME's, PATH's, those of Linux's usual folder and SDKMAN's."""
    seen: set[Path] = set()
    for path in _candidates(named, environ):
        real = path.resolve()
        if real not in seen and path.is_file():
            seen.add(real)
            if (jvm := _ask(path)) is not None:
                yield jvm


def class_path(task_root: Path, opt: Path | None) -> list[str]:
    """Return Lambda's order: the task root, its lib/*.jar, the layers' java/lib/*.jar."""
    folders = [task_root / "lib", *([opt / "java/lib"] if opt else [])]
    return [f"{task_root}/", *(str(jar) for folder in folders for jar in sorted(folder.glob("*.jar")))]


def _candidates(named: Path | None, environ: Mapping[str, str]) -> Iterator[Path]:
    if named is not None:
        yield named
    if environ.get("JAVA_HOME"):
        yield Path(environ["JAVA_HOME"]) / "bin/java"
    yield from (Path(folder) / "java" for folder in environ.get("PATH", "").split(os.pathsep) if folder)
    yield from sorted(SYSTEM_FOLDER.glob("*/bin/java"))
    yield from sorted(Path(environ.get("HOME") or "/").glob(".sdkman/candidates/java/*/bin/java"))


def _ask(path: Path) -> Jvm | None:
    try:
        done = subprocess.run(  # noqa: S603 - a program that was found or named, no shell
            [path, "-version"], capture_output=True, text=True, timeout=_ASKED_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    said = _VERSION.search(done.stderr)
    return Jvm(int(said[2]), said[1].rstrip("."), str(path)) if said else None


def _major(name: str) -> int:
    return int(name.removeprefix("java"))
