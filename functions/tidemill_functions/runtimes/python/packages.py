"""Makes the folder of packages that AWS's Python runtime brings: boto3, awslambdaric and what they need.

The packages are Tidemill's own, by links: what is installed beside them stays out of a handler's sight.
Knows distributions and folders, nothing of functions.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

import tidemill

_BROUGHT: Final = ("boto3", "awslambdaric")
_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")


def make_packages(folder: Path) -> None:
    """Fill the folder with links to the packages, in place of what an earlier start left."""
    links: dict[str, Path] = {}
    for found in _closure(_BROUGHT):
        links |= _top_level(found)
    _replace(folder, links)


def make_trigger(folder: Path) -> None:
    """Fill the folder with a link to `tidemill`, which code that runs in place may import."""
    assert tidemill.__file__ is not None
    _replace(folder, {"tidemill": Path(tidemill.__file__).parent})


def package_folders(folder: Path) -> set[Path]:
    """Return the folders that the links of a folder of packages lead into."""
    return {link.readlink().parent for link in folder.iterdir()}


def _replace(folder: Path, links: dict[str, Path]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{folder.name}."
    for abandoned in folder.parent.glob(f"{prefix}*"):
        shutil.rmtree(abandoned, ignore_errors=True)
    draft = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
    for name, target in links.items():
        (draft / name).symlink_to(target)
    draft.chmod(0o755)  # for handlers with a user of their own
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)


def _closure(names: tuple[str, ...]) -> Iterator[Distribution]:
    """Yield these distributions and what they require, extras left out, as far as it is installed."""
    seen: set[str] = set()
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        with contextlib.suppress(PackageNotFoundError):  # required on other systems only
            found = distribution(name)
            yield found
            for requirement in found.requires or []:
                if "extra ==" not in requirement:
                    waiting += _NAME.findall(requirement)[:1]


def _top_level(found: Distribution) -> dict[str, Path]:
    """Return the folders and modules of a distribution by their names; scripts lie outside."""
    names = {file.parts[0] for file in found.files or []}
    root = Path(str(found.locate_file("")))
    return {
        name: root / name for name in names if name not in ("..", "__pycache__") and (root / name).exists()
    }
