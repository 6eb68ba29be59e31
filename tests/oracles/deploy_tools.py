"""The tools that people deploy with, from their registries: SAM CLI by pip, AWS CDK and Serverless by npm.

Each is fetched once into `.cache/`. Knows nothing of Tidemill.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

SAM_VERSION = "1.170.0"
CDK_VERSIONS = ("aws-cdk@2.1148.1", "aws-cdk-lib@2.276.0", "constructs@10.8.1")
SERVERLESS_VERSIONS = ("serverless@3.40.0",)
# Where a filesystem mirror of Terraform's providers may lie.
TERRAFORM_MIRRORS = [
    Path(path) for path in (os.environ.get("TF_PLUGIN_MIRROR", ""), "/opt/tf-plugins") if path
]
TERRAFORM_PROVIDER = "registry.terraform.io/hashicorp/aws"
_CACHE = Path(__file__).resolve().parents[2] / ".cache"


class Missing(Exception):
    """A tool cannot be had here; the message says why."""


def had_or_skip(fetch: Callable[[], Path]) -> Path:
    """What is fetched, or a skipped test; in CI a failure."""
    try:
        return fetch()
    except Missing as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing))
        pytest.skip(str(missing))


def sam() -> Path:
    """The SAM CLI, in an environment of its own: its dependencies are not ours. Raises Missing."""
    target = _CACHE / "sam" / SAM_VERSION

    def fetch(draft: Path) -> None:
        _run([sys.executable, "-m", "venv", str(draft)])
        pip = [
            str(draft / "bin" / "python"),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ]
        _run([*pip, f"aws-sam-cli=={SAM_VERSION}"])

    # A virtual environment cannot be moved: it is complete when its mark is there.
    return _once(target, fetch) / "bin" / "sam"


def cdk() -> Path:
    """A folder with `node_modules` of the CDK's command and library. Raises Missing."""
    return _npm("cdk", CDK_VERSIONS)


def serverless() -> Path:
    """A folder with `node_modules` of the Serverless Framework 3. Raises Missing."""
    return _npm("serverless", SERVERLESS_VERSIONS)


def terraform_mirror() -> Path:
    """A folder that mirrors AWS's provider, where `terraform` is on PATH. Raises Missing."""
    found = next((path for path in TERRAFORM_MIRRORS if (path / TERRAFORM_PROVIDER).is_dir()), None)
    if shutil.which("terraform") is None:
        raise Missing("needs terraform on PATH")
    if found is None:
        where = [str(path) for path in TERRAFORM_MIRRORS]
        raise Missing(f"terraform needs {TERRAFORM_PROVIDER} below one of {where}: set TF_PLUGIN_MIRROR")
    return found


def _npm(name: str, packages: Sequence[str]) -> Path:
    if shutil.which("npm") is None:
        raise Missing(f"needs npm on PATH, to fetch {', '.join(packages)}")
    version = packages[0].rpartition("@")[2]

    def fetch(draft: Path) -> None:
        draft.mkdir(parents=True)
        (draft / "package.json").write_text('{"private": true}\n')
        quiet = ["--no-audit", "--no-fund", "--no-progress", "--loglevel=error"]
        _run(["npm", "install", *quiet, *packages], cwd=draft)

    return _once(_CACHE / name / version, fetch)


def _once(target: Path, fetch: Callable[[Path], None]) -> Path:
    """Fetch into `target` unless that was done; other processes wait."""
    target.parent.mkdir(parents=True, exist_ok=True)
    mark = target / ".complete"
    with target.with_name(f"{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not mark.exists():
            shutil.rmtree(target, ignore_errors=True)
            fetch(target)
            mark.touch()
    return target


def _run(command: Sequence[str], cwd: Path | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Missing(f"{' '.join(command)} failed: {done.stderr.strip()[-300:]}")
