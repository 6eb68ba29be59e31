"""Which `java` runs a function: its own version first, a newer one else, an older one never."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidemill_functions.errors import InvalidFunction
from tidemill_functions.runtimes.java import runtime
from tidemill_functions.runtimes.java.runtime import Jvm, class_path, find_jvms

SAYS = "echo 'openjdk version \"{}\" 2026-01-01' >&2"


def program(path: Path, version: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{SAYS.format(version)}\n")
    path.chmod(0o755)
    return path


def choice(environ: dict[str, str], asked: int, named: Path | None = None) -> Jvm:
    return runtime.choose(f"java{asked}", find_jvms(named, {**environ, "PATH": environ.get("PATH", "")}))


@pytest.fixture(autouse=True)
def _no_system_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(runtime, "SYSTEM_FOLDER", tmp_path / "none")


def test_its_own_version_goes_before_a_newer_one(tmp_path: Path) -> None:
    program(tmp_path / "25/java", "25.0.3")
    own = program(tmp_path / "21/java", "21")
    assert choice({"PATH": f"{tmp_path}/25:{tmp_path}/21"}, 21) == Jvm(21, "21", str(own))


def test_the_nearest_newer_one_runs_it_else(tmp_path: Path) -> None:
    program(tmp_path / "25/java", "25.0.3")
    nearest = program(tmp_path / "home/.sdkman/candidates/java/22/bin/java", "22.0.1")
    found = choice({"PATH": f"{tmp_path}/25", "HOME": str(tmp_path / "home")}, 21)
    assert (found.path, found.version) == (str(nearest), "22.0.1")


def test_an_older_one_is_named_and_does_not_run_it(tmp_path: Path) -> None:
    old = program(tmp_path / "home/bin/java", "17.0.15")
    with pytest.raises(InvalidFunction) as raised:
        choice({"JAVA_HOME": str(tmp_path / "home")}, 21)
    assert str(raised.value) == (
        f"The runtime java21 needs Java 21 or newer, and this machine has 17.0.15 ({old}): install it, or "
        "name its program in TIDEMILL_FUNCTIONS_JAVA."
    )


def test_the_one_that_is_named_goes_first(tmp_path: Path) -> None:
    named = program(tmp_path / "own/java", "21.0.2")
    program(tmp_path / "path/java", "21.0.9")
    assert choice({"PATH": f"{tmp_path}/path"}, 21, named).path == str(named)


def test_the_class_path_is_task_root_then_its_jars_then_the_layers(tmp_path: Path) -> None:
    task_root, opt = tmp_path / "task", tmp_path / "opt"
    jars = (task_root / "lib/b.jar", task_root / "lib/a.jar", opt / "java/lib/c.jar", task_root / "d.jar")
    for jar in jars:
        jar.parent.mkdir(parents=True, exist_ok=True)
        jar.touch()
    expected = [f"{task_root}/lib/a.jar", f"{task_root}/lib/b.jar", f"{opt}/java/lib/c.jar"]
    assert class_path(task_root, opt) == [f"{task_root}/", *expected]
