"""What must hold of every file in the repository."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Written in pieces, so that this file is not its own first finding.
REGISTRIES: tuple[str, ...] = ("pypi." + "org", "python" + "hosted", "crates" + ".io", "proxy." + "golang")
REGISTRIES += ("registry." + "npmjs", "maven" + ".org", "deb." + "debian")
MACHINE_PATHS = ("/wo" + "rk/", "/ro" + "ot/", "/fa" + "rm/")
FORBIDDEN = re.compile("|".join(re.escape(text) for text in (*REGISTRIES, *MACHINE_PATHS)))


def tracked_files() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_file_names_a_registry_or_a_path_of_the_machine_it_was_written_on() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in tracked_files()
        if (match := FORBIDDEN.search(path.read_text(errors="replace")))
    ]

    assert found == []


def test_no_lock_file_is_tracked() -> None:
    locks = {"Cargo.lock", "poetry.lock", "uv.lock", "package-lock.json", "pdm.lock"}

    assert [path for path in tracked_files() if path.name in locks] == []


def test_every_constraint_is_a_name_and_one_version() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()

    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+]+", line)] == []


def test_what_others_wrote_knows_nothing_of_ours() -> None:
    """An oracle that ran our code would agree with it. What starts our programs is in tests/harness."""
    ours = re.compile(r"^\s*(?:from|import) (?:tidemill|tests\.(?:harness|fakes))", re.MULTILINE)

    assert [
        path.name for path in (ROOT / "tests/oracles").glob("*.py") if ours.search(path.read_text())
    ] == []


def test_folders_of_unit_tests_mirror_the_packages() -> None:
    """tests/unit/broker/log is for tidemill_broker.log; infra and functions hold several packages."""
    roots = {
        "broker": ["broker/tidemill_broker"],
        "poller": ["poller/tidemill_poller"],
        "functions": ["functions/tidemill_functions", "functions"],
        "infra": ["infra"],
    }
    unit = ROOT / "tests/unit"
    folders = {path.parent.relative_to(unit) for path in unit.glob("*/*/**/test_*.py")}

    def mirrored(folder: Path) -> bool:
        program, *rest = folder.parts
        if program == "infra":
            rest[0] = f"tidemill_{rest[0]}"
        return any((ROOT / root).joinpath(*rest).is_dir() for root in roots[program])

    assert [str(folder) for folder in sorted(folders) if not mirrored(folder)] == []
