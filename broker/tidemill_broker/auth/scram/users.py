"""The users of SCRAM and PLAIN: salted keys by name and mechanism, in one file that is never half written.

Users made by Kafka's API and users from Secrets Manager are kept apart; where both know a name, the secret's
keys hold. An unknown name gets made-up keys with a salt that stays and looks like a user's, so that nobody
can find out who exists.

See docs/decisions/0912.
"""

import json
import logging
import secrets
import stat
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from tidemill_broker.auth.scram.keys import (
    ITERATIONS_MAX,
    ITERATIONS_MIN,
    SALT_BYTES,
    SCRAM_NAMES,
    ScramCredential,
    ScramName,
    keyed,
)
from tidemill_broker.durable_files import write_durably
from tidemill_broker.errors import BrokerError

logger = logging.getLogger(__name__)

FILE_VERSION: Final = 1
SERVER_SECRET_BYTES: Final = 32
OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
# What Java's tools write salts in: a number to the base of 36 (Kafka: ScramFormatter.secureRandomBytes).
JAVA_SALTS: Final = b"0123456789abcdefghijklmnopqrstuvwxyz"
# The most common looks of keys, which made-up ones take: each costs a hash at each login.
LOOKS_MAX: Final = 16
# Of all users made by API: all of them are written with each change, while all other requests wait. Ten
# thousand with usual names have room in it. (Kafka has no limit.)
FILE_BYTES_MAX: Final = 8 * 1024 * 1024

Credentials = Mapping[ScramName, ScramCredential]


class TooManyUsers(BrokerError):
    """The broker would have to keep more of users than it can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretUser:
    """The user that one secret makes: of which version of the secret, and its salted keys."""

    version_id: str
    username: str
    credentials: Credentials = field(repr=False)


class Found(NamedTuple):
    """A credential, and whether it is anybody's: with one that was made up, no login succeeds."""

    credential: ScramCredential
    known: bool


class _Look(NamedTuple):
    """What an unauthenticated client learns of a user's keys, but for the bytes of the salt."""

    iterations: int = ITERATIONS_MIN
    salt_bytes: int = SALT_BYTES
    as_java: bool = False


class ScramUsers:
    """The store. Reads are from memory; a change is on disk before it holds."""

    def __init__(self, file: Path) -> None:
        """Read the file, or begin one. Raises ValueError for a damaged one, OSError from the disk."""
        self._file = file
        self._server_secret = secrets.token_bytes(SERVER_SECRET_BYTES)
        self._users: Mapping[str, Credentials] = {}
        self._secrets: Mapping[str, SecretUser] = {}
        if file.exists():
            self._read()
        # As they stand in the file: a change of one does not spell all of them again.
        self._rows = {name: _row(name, each) for name, each in self._users.items()}
        if not file.exists():
            self._write(self._rows, self._secrets)
        self._by_secret = _by_username(self._secrets)
        self._looks = self._seen()

    def find(self, mechanism: ScramName, name: str) -> Found:
        """Find the keys of this name; for an unknown one, made-up keys that no password fits."""
        made_up = self._made_up(mechanism, name)  # always: a known name takes as long
        found = self._by_secret.get(name, self._users.get(name, {})).get(mechanism)
        return Found(made_up, known=False) if found is None else Found(found, known=True)

    @property
    def by_api(self) -> Mapping[str, Credentials]:
        """Users that AlterUserScramCredentials made."""
        return self._users

    @property
    def by_secrets(self) -> Mapping[str, SecretUser]:
        """Users that Secrets Manager holds, by the secret's ARN."""
        return self._secrets

    def alter(
        self,
        deletions: Collection[tuple[str, ScramName]],
        upsertions: Mapping[tuple[str, ScramName], ScramCredential],
    ) -> None:
        """Change users made by API, all or none.

        Raises TooManyUsers, or OSError when the disk fails, and changes nothing.
        """
        changed = {name: dict(self._users.get(name, {})) for name, _ in (*deletions, *upsertions)}
        for name, mechanism in deletions:
            changed[name].pop(mechanism, None)
        for (name, mechanism), credential in upsertions.items():
            changed[name][mechanism] = credential
        users, rows = dict(self._users), dict(self._rows)
        for name, credentials in changed.items():
            users.pop(name, None)
            rows.pop(name, None)
            if credentials:
                users[name], rows[name] = credentials, _row(name, credentials)
        if sum(map(len, rows.values())) > max(FILE_BYTES_MAX, sum(map(len, self._rows.values()))):
            raise TooManyUsers(f"All users together have {FILE_BYTES_MAX} bytes at most: delete others first")
        self._write(rows, self._secrets)
        self._users, self._rows = users, rows
        self._looks = self._seen()

    def replace_secrets(self, found: Mapping[str, SecretUser]) -> None:
        """Let exactly these secrets make users. Raises OSError when the disk fails, and changes nothing."""
        if found == self._secrets:
            return
        self._write(self._rows, found)
        self._secrets = dict(found)
        self._by_secret = _by_username(found)
        self._looks = self._seen()

    def _made_up(self, mechanism: ScramName, name: str) -> ScramCredential:
        def part(label: bytes) -> bytes:
            return keyed(mechanism, self._server_secret, label + mechanism.encode() + b"\0" + name.encode())

        look = self._look(mechanism, name)
        return ScramCredential(
            salt=_made_up_salt(look, part),
            iterations=look.iterations,
            stored_key=part(b"stored key\0"),
            server_key=part(b"server key\0"),
        )

    def _look(self, mechanism: ScramName, name: str) -> _Look:
        """Choose a look for a name; it keeps it while others come and go, as long as that one is there."""

        def rank(look: _Look) -> bytes:
            # By any mechanism the same: who has keys for both mostly has them alike.
            return keyed(SCRAM_NAMES[0], self._server_secret, f"look\0{tuple(look)}\0{name}".encode())

        return max(self._looks[mechanism], key=rank)

    def _seen(self) -> Mapping[ScramName, Sequence[_Look]]:
        seen: dict[ScramName, Counter[_Look]] = {mechanism: Counter() for mechanism in SCRAM_NAMES}
        for credentials in (*self._users.values(), *self._by_secret.values()):
            for mechanism, each in credentials.items():
                as_java = each.salt != b"" and not each.salt.strip(JAVA_SALTS)
                seen[mechanism][_Look(each.iterations, len(each.salt), as_java)] += 1
        return {
            mechanism: [look for look, _ in looks.most_common(LOOKS_MAX)] or [_Look()]
            for mechanism, looks in seen.items()
        }

    def _read(self) -> None:
        if stat.S_IMODE(self._file.stat().st_mode) & OTHERS:
            logger.warning("others could read %s: its keys are now for its owner alone", self._file)
            self._file.chmod(0o600)
        try:
            content = json.loads(self._file.read_bytes())
            if content["version"] != FILE_VERSION:
                raise ValueError(f"it has version {content['version']!r}, this broker reads {FILE_VERSION}")
            self._server_secret = _bytes(content["serverSecret"])
            self._users = {name: _credentials(each) for name, each in content["users"].items()}
            self._secrets = {arn: _secret(each) for arn, each in content["secrets"].items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"it is no file of SCRAM users: {type(error).__name__} {error}") from None

    def _write(self, rows: Mapping[str, bytes], secrets_: Mapping[str, SecretUser]) -> None:
        secret_rows = {arn: _secret_json(each) for arn, each in secrets_.items()}
        write_durably(
            self._file,
            b'{"version":%d,"serverSecret":%b,"users":{%b},"secrets":%b}'
            % (
                FILE_VERSION,
                orjson.dumps(_text(self._server_secret)),
                b",".join(rows.values()),
                orjson.dumps(secret_rows),
            ),
        )


def _made_up_salt(look: _Look, part: Callable[[bytes], bytes]) -> bytes:
    salt = b""
    while len(salt) < look.salt_bytes:
        salt += part(b"salt %d\0" % len(salt))
    if look.as_java:
        salt = bytes(JAVA_SALTS[byte % len(JAVA_SALTS)] for byte in salt)
    return salt[: look.salt_bytes]


def secret_name(arn: str) -> str:
    """Give the name in a secret's ARN, which ends in a hyphen and six characters of chance."""
    return arn.rpartition(":")[2].rpartition("-")[0] or arn


def precedence(arn: str) -> tuple[str, str]:
    """Order secrets by name: of two with one user name the same one holds, whenever they were made.

    By ARN alone chance would decide between `AmazonMSK_a` and `AmazonMSK_a-b`.
    """
    return secret_name(arn), arn


def _by_username(found: Mapping[str, SecretUser]) -> Mapping[str, Credentials]:
    by_username: dict[str, Credentials] = {}
    for arn in sorted(found, key=precedence):
        by_username.setdefault(found[arn].username, found[arn].credentials)
    return by_username


def _row(name: str, credentials: Credentials) -> bytes:
    return b"%b:%b" % (orjson.dumps(name), orjson.dumps(_credentials_json(credentials)))


def _credentials_json(credentials: Credentials) -> dict[str, Any]:
    return {
        mechanism: {
            "salt": _text(each.salt),
            "iterations": each.iterations,
            "storedKey": _text(each.stored_key),
            "serverKey": _text(each.server_key),
        }
        for mechanism, each in credentials.items()
    }


def _credentials(content: Mapping[str, Any]) -> Credentials:
    return {_mechanism(name): _credential(_mechanism(name), each) for name, each in content.items()}


def _credential(mechanism: ScramName, content: Mapping[str, Any]) -> ScramCredential:
    credential = ScramCredential(
        salt=_bytes(content["salt"]),
        iterations=content["iterations"],
        stored_key=_bytes(content["storedKey"]),
        server_key=_bytes(content["serverKey"]),
    )
    size = len(keyed(mechanism, b"any", b""))
    if not len(credential.stored_key) == len(credential.server_key) == size:
        raise ValueError(f"a key of {mechanism} has {size} bytes")
    if not ITERATIONS_MIN <= credential.iterations <= ITERATIONS_MAX:
        raise ValueError(f"iterations are {ITERATIONS_MIN} to {ITERATIONS_MAX}")
    return credential


def _mechanism(name: str) -> ScramName:
    found = next((each for each in SCRAM_NAMES if each == name), None)
    if found is None:
        raise ValueError(f"there is no mechanism {name!r}")
    return found


def _secret_json(user: SecretUser) -> dict[str, Any]:
    credentials = _credentials_json(user.credentials)
    return {"versionId": user.version_id, "username": user.username, "credentials": credentials}


def _secret(content: Mapping[str, Any]) -> SecretUser:
    return SecretUser(
        version_id=content["versionId"],
        username=content["username"],
        credentials=_credentials(content["credentials"]),
    )


def _text(value: bytes) -> str:
    return b64encode(value).decode()


def _bytes(value: str) -> bytes:
    return b64decode(value, validate=True)
