"""The demo, with few flights: the main job on real data, proven from the outside."""

from __future__ import annotations

import subprocess

import pytest

from tests.harness.up import TIDEMILL, clean_environ

pytestmark = pytest.mark.slow


def test_the_demo_proves_its_flights_and_leaves_nothing() -> None:
    """Exit status 0, no flight lost, one retry tree down to the poison record."""
    ran = subprocess.run(
        [TIDEMILL, "demo", "--flights", "1500"],
        env=clean_environ(AWS_ENDPOINT_URL="http://127.0.0.1:1"),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "1,500  flights produced" in ran.stdout
    assert "0  lost" in ran.stdout
    assert "POISON" in ran.stdout
    assert "Proven: every flight is counted once" in ran.stdout
