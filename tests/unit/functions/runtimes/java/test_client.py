"""AWS's Java client is brought once, checked, and its absence is one sentence that names the fix."""

from __future__ import annotations

import hashlib
import platform
import zipfile
from pathlib import Path

import pytest

from tidemill_functions.errors import InvalidFunction
from tidemill_functions.runtimes.java import client
from tidemill_functions.runtimes.java.client import Artifact, ClientStore

MEMBERS = [f"jni/libaws-lambda-jni.{libc}-{platform.machine()}.so" for libc in ("linux", "linux_musl")]
GROUP = "com.amazonaws"
NAME = "aws-lambda-java-runtime-interface-client"


def make_jar(path: Path, text: str = "native") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for member in MEMBERS:
            archive.writestr(member.replace("aarch64", "aarch_64"), text)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A local repository of Maven below the home folder, with the one jar that is expected."""
    jar = tmp_path / f"home/.m2/repository/com/amazonaws/{NAME}/1/{NAME}-1.jar"
    monkeypatch.setattr(client, "ARTIFACTS", (Artifact(GROUP, NAME, "1", make_jar(jar)),))
    return jar


def environ(tmp_path: Path, path: str = "") -> dict[str, str]:
    return {"HOME": str(tmp_path / "home"), "PATH": path}


def test_it_comes_from_mavens_local_repository(tmp_path: Path, repository: Path) -> None:
    found = ClientStore(tmp_path / "java", None, environ(tmp_path)).get()
    assert found.jars == (str(tmp_path / "java" / repository.name),)
    assert Path(found.library).read_text() == "native"


def test_once_brought_it_needs_nothing_more(tmp_path: Path, repository: Path) -> None:
    ClientStore(tmp_path / "java", None, environ(tmp_path)).get()
    repository.unlink()
    assert ClientStore(tmp_path / "java", None, environ(tmp_path)).get().jars


def test_without_maven_one_sentence_names_the_fix(tmp_path: Path, repository: Path) -> None:
    repository.unlink()
    with pytest.raises(InvalidFunction) as raised:
        ClientStore(tmp_path / "java", None, environ(tmp_path)).get()
    assert "Maven (mvn) is not installed: install Maven and connect once" in str(raised.value)
    assert "TIDEMILL_FUNCTIONS_JAVA_CLIENT" in str(raised.value)


def test_when_maven_is_offline_its_reason_is_given(tmp_path: Path, repository: Path) -> None:
    repository.unlink()
    maven = tmp_path / "bin/mvn"
    maven.parent.mkdir()
    maven.write_text("#!/bin/sh\necho '[ERROR] Unknown host'\nexit 1\n")
    maven.chmod(0o755)
    with pytest.raises(InvalidFunction, match=r"\[ERROR\] Unknown host"):
        ClientStore(tmp_path / "java", None, environ(tmp_path, str(maven.parent))).get()


def test_a_jar_that_was_changed_is_rejected_and_not_kept(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Maven's own answer is checked as well, not only the local repository."""
    make_jar(repository, "changed")
    maven = tmp_path / "bin/mvn"
    maven.parent.mkdir()
    maven.write_text(f'#!/bin/sh\nfor last; do :; done\ncp {repository} "${{last#*=}}"\n')
    maven.chmod(0o755)
    monkeypatch.setenv("PATH", "/bin:/usr/bin")
    with pytest.raises(InvalidFunction, match="is not the jar that was expected"):
        ClientStore(tmp_path / "java", None, environ(tmp_path, str(maven.parent))).get()
    assert not list((tmp_path / "java").glob("*.jar"))


def test_a_folder_that_is_named_is_used_as_it_is(tmp_path: Path) -> None:
    make_jar(tmp_path / "own" / f"{NAME}-9.jar", "own")
    make_jar(tmp_path / "own" / "a.jar")
    found = ClientStore(tmp_path / "java", tmp_path / "own", {}).get()
    assert [Path(jar).name for jar in found.jars] == [f"{NAME}-9.jar", "a.jar"]
    assert Path(found.library).read_text() == "own"


def test_a_folder_without_the_client_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(InvalidFunction, match=f"holds no {NAME}"):
        ClientStore(tmp_path / "java", tmp_path, {}).get()
