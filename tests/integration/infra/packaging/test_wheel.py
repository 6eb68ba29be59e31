"""What `make wheel` builds, and what it does in an empty environment: it installs no name but ours, and runs.

One wheel and one environment for the whole file, made by the Makefile's own target.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.up import clean_environ

# Cold: a build of the crate with all that it needs, an environment with all its packages, the demo.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[4]
PROGRAMS = {"tidemill_poller", "tidemill_broker", "tidemill_functions"}
TYPED = {"tidemill", *PROGRAMS, "tidemill_awsapi", "tidemill_local", "tidemill_cli"}
OURS = TYPED | {"tidemill_samples"}


def run(*command: str | Path, cwd: Path, timeout_s: float = 600) -> str:
    ran = subprocess.run(
        command,
        cwd=cwd,
        env=clean_environ(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    return ran.stdout


def git_status() -> str:
    return run("git", "status", "--porcelain", "--untracked-files=all", cwd=ROOT)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, before = tmp_path_factory.mktemp("dist"), git_status()
    run("make", "--silent", "wheel", f"DIST={folder}", f"BIN={Path(sys.executable).parent}", cwd=ROOT)
    assert git_status() == before
    [built] = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def tidemill(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The command of an environment that has the wheel and what the wheel asks for, and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", folder, cwd=folder)
    install = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile")
    constraints = ("-c", str(ROOT / "constraints.txt"))
    run(folder / "bin" / "python", *install, *constraints, f"{wheel}[demo]", cwd=folder)
    yield folder / "bin" / "tidemill"
    shutil.rmtree(folder)


def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_the_wheel_is_the_one_for_every_python_from_3_11(wheel: Path) -> None:
    """The stable ABI: the tag says so, and the extension in it is built for it."""
    _, _, python, abi, platform = wheel.stem.split("-")
    assert (python, abi) == ("cp311", "abi3")
    assert platform != "any"
    assert [name for name in names(wheel) if name.endswith(".so")] == ["tidemill_broker/_core.abi3.so"]


def test_the_wheel_installs_no_name_but_ours(wheel: Path) -> None:
    top = {name.partition("/")[0] for name in names(wheel)}
    assert {name for name in top if not name.endswith(".dist-info")} == OURS
    assert len(top) == len(OURS) + 1


def test_the_wheel_has_the_licence_and_what_type_checkers_read(wheel: Path) -> None:
    found = names(wheel)
    assert {f"{package}/py.typed" for package in TYPED} <= set(found)
    assert "tidemill_broker/_core.pyi" in found
    assert [name for name in found if name.endswith("/LICENSE")] != []
    assert "tidemill_functions/runtimes/node/bootstrap.mjs" in found


@pytest.mark.parametrize("folders", [(), ("functions", "poller", "broker", "infra", "tests")])
def test_an_installed_wheel_runs_the_demo(tidemill: Path, tmp_path: Path, folders: tuple[str, ...]) -> None:
    """From an empty folder, and from one with a user's packages, none of which is imported by mistake."""
    for name in folders:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise ImportError('the user\\'s own {name}')\n")
    said = run(tidemill, "demo", "--flights", "400", cwd=tmp_path, timeout_s=170)
    assert "0  lost" in said
    assert "Proven: every flight is counted once" in said
