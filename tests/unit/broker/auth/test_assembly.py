"""A broker loads what its listeners use, and no more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
from pathlib import Path
from tidemill_broker import __main__
from tidemill_broker.auth.assembly import assemble
from tidemill_broker.settings import Settings

assemble(Settings(data_dir=Path(sys.argv[1])), cluster_arn="", now_ms=lambda: 0)
print(*sorted({"cryptography", "botocore", "hypothesis"} & sys.modules.keys()))
"""


def test_a_plaintext_broker_loads_no_library_for_logins(tmp_path: Path) -> None:
    """They would take longer than all the rest of its start."""
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    loaded = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert loaded.stdout.split() == []
