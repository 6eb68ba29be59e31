"""The checkout as an editor sees it: types are found by mypy's own paths, with nothing installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]
# A member of each package, and what its type must be.
TYPES = {
    "tidemill.KafkaTrigger": "tidemill.trigger.KafkaTrigger",
    "tidemill_poller.errors.InvalidSettings": "tidemill_poller.errors.InvalidSettings",
    "tidemill_broker._core.BUILD_PROFILE": "str",
    "tidemill_functions.errors.InvalidSettings": "tidemill_functions.errors.InvalidSettings",
    "tidemill_awsapi.CredentialScope": "tidemill_awsapi.scope.CredentialScope",
    "tidemill_local.errors.UpError": "tidemill_local.errors.UpError",
    "tidemill_cli.errors.UserError": "tidemill_cli.errors.UserError",
}


def test_mypy_finds_each_package_without_an_install(tmp_path: Path) -> None:
    source = [f"import {name.rpartition('.')[0]}" for name in TYPES] + [
        f"reveal_type({name})" for name in TYPES
    ]
    (tmp_path / "shown.py").write_text("\n".join(source) + "\n")
    # --no-site-packages: what is installed beside us, an editable Tidemill too, is not looked at.
    mypy = (sys.executable, "-m", "mypy", "--no-site-packages", "--follow-imports=silent", "--no-incremental")
    ran = subprocess.run(
        [*mypy, "--cache-dir=/dev/null", str(tmp_path / "shown.py")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    revealed = [line for line in ran.stdout.splitlines() if "Revealed type" in line]
    assert len(revealed) == len(TYPES), ran.stdout + ran.stderr
    wrong = [line for line, seen in zip(revealed, TYPES.values(), strict=True) if seen not in line]
    assert wrong == []
