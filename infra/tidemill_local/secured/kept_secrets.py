"""Owns the secrets that `up --auth` makes once and keeps in DATA_DIR/auth.json (0600).

The embedded AWS forgets everything at each start: what is kept here is given to it again, so that passwords
and keys in clients' configurations stay good.

See docs/decisions/0971.
"""

import json
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tidemill_local.private_files import write_private

USER_NAME: Final = "tidemill"
POLICY_NAME: Final = "tidemill-kafka"
# The usual emulator credentials: everybody who reaches the endpoint may use them; they are no secret.
ADMINISTRATOR_KEY_ID: Final = "test"
ADMINISTRATOR_SECRET: Final = "test"  # noqa: S105 - see above
_PASSWORD_CHARACTERS = string.ascii_letters + string.digits
_KEY_ID_CHARACTERS = string.ascii_uppercase + "234567"
_CLUSTER_NAME = "tidemill"
_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptSecrets:
    """The SCRAM user's password, and the access key of the IAM user; both users are called tidemill."""

    scram_password: str = field(repr=False)
    access_key_id: str
    secret_access_key: str = field(repr=False)

    @property
    def scram_secret(self) -> Mapping[str, str]:
        """The SCRAM user in the form of MSK's and Lambda's secrets."""
        return {"username": USER_NAME, "password": self.scram_password}


class _NewerVersion(Exception):
    """The file was written by a newer Tidemill; the message is its version."""


def keep_secrets(file: Path) -> KeptSecrets:
    """Read what was made before; make and write it the first time.

    Raises:
        ValueError: the file is damaged, or of a newer Tidemill; the message names it and the fix, and quotes
            nothing of it.

    """
    try:
        return _read(file)
    except FileNotFoundError:
        made = KeptSecrets(
            scram_password=_random(_PASSWORD_CHARACTERS, 32),
            # Not AWS's AKIA, so that scanners for leaked keys of AWS do not report it.
            access_key_id="TKIA" + _random(_KEY_ID_CHARACTERS, 16),
            secret_access_key=_random(_PASSWORD_CHARACTERS, 40),
        )
        write_kept(file, made)
        return made
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise ValueError(
            f"{file} is damaged: restore a backup, or remove it, and new passwords and keys are made."
        ) from None
    except _NewerVersion as newer:
        raise ValueError(
            f"{file} has version {newer}, and this Tidemill reads {_VERSION}: start the one that wrote it."
        ) from None


def write_kept(file: Path, kept: KeptSecrets) -> None:
    """Write them for the next `up`."""
    content = {name: getattr(kept, name) for name in KeptSecrets.__slots__}
    write_private(file, json.dumps({"version": _VERSION, **content}, indent=2) + "\n")


def user_policy(region: str, account_id: str) -> Mapping[str, Any]:
    """What the IAM user may: everything on the cluster called tidemill, whatever its uuid."""
    kinds = ("cluster", "topic", "group", "transactional-id")
    resources = [f"arn:aws:kafka:{region}:{account_id}:{kind}/{_CLUSTER_NAME}/*" for kind in kinds]
    return _allow(resources)


def identity(kept: KeptSecrets, region: str, account_id: str) -> Mapping[str, Any]:
    """The IAM user's key for an identity file of the broker."""
    return {
        "accessKeyId": kept.access_key_id,
        "secretAccessKey": kept.secret_access_key,
        "principalArn": f"arn:aws:iam::{account_id}:user/{USER_NAME}",
        "policies": [user_policy(region, account_id)],
    }


def administrator(account_id: str) -> Mapping[str, Any]:
    """The identity of test/test for the broker's identity file."""
    return {
        "accessKeyId": ADMINISTRATOR_KEY_ID,
        "secretAccessKey": ADMINISTRATOR_SECRET,
        "principalArn": f"arn:aws:iam::{account_id}:user/{ADMINISTRATOR_KEY_ID}",
        "policies": [_allow(["*"])],
    }


def _allow(resources: list[str]) -> Mapping[str, Any]:
    statement = {"Effect": "Allow", "Action": "kafka-cluster:*", "Resource": resources}
    return {"Version": "2012-10-17", "Statement": [statement]}


def _read(file: Path) -> KeptSecrets:
    """Read them. Raises ValueError, TypeError or AttributeError if the file is damaged, and _NewerVersion."""
    found: dict[str, Any] = dict(json.loads(file.read_text()).items())
    version = found.pop("version", None)
    if isinstance(version, int) and version > _VERSION:
        raise _NewerVersion(version)
    if not all(isinstance(value, str) and value for value in found.values()):
        raise TypeError(file)
    return KeptSecrets(**found)


def _random(characters: str, length: int) -> str:
    return "".join(secrets.choice(characters) for _ in range(length))
