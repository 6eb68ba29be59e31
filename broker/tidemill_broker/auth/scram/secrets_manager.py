"""SCRAM users from Secrets Manager, as MSK has them: each `AmazonMSK_*` secret is one user.

`follow` runs for as long as the broker; what it finds goes into the store, salted, when a secret's version is
new. boto3 is imported when it is needed, and asked in a thread. Passwords live in that thread only.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from tidemill_broker.auth.scram.keys import SCRAM_NAMES, derive
from tidemill_broker.auth.scram.users import ScramUsers, SecretUser, precedence, secret_name
from tidemill_broker.errors import BrokerError

logger = logging.getLogger(__name__)
# At DEBUG it tells replies with their secrets.
logging.getLogger("botocore").setLevel(logging.INFO)

PREFIX: Final = "AmazonMSK_"
USERS_MAX: Final = 1000  # MSK: users of a cluster
PAGE: Final = 100  # Secrets Manager's most
TIMEOUT_S: Final = 5
# After a failure, so that a broker that starts before its Secrets Manager has its users soon.
RETRY_S: Final = 1.0
MEMBERS: Final = {"username", "password"}
CURRENT: Final = "AWSCURRENT"


class SecretsManager(Protocol):
    """The two calls of boto3's client that are made."""

    def list_secrets(self, **parameters: Any) -> Mapping[str, Any]:
        """ListSecrets."""
        ...

    def get_secret_value(self, **parameters: Any) -> Mapping[str, Any]:
        """GetSecretValue."""
        ...


class UnusableSecret(BrokerError, ValueError):
    """A secret does not hold a user; the text names the fix and never the content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one look at Secrets Manager found: the users, and a sentence for each secret at fault.

    `clashes`: by ARN, the secret whose user name another has, and that other one, which holds.
    """

    users: Mapping[str, SecretUser]
    faults: Mapping[str, str] = field(default_factory=dict)
    clashes: Mapping[str, str] = field(default_factory=dict)


async def follow(users: ScramUsers, *, refresh_ms: int, region: str) -> None:
    """Keep the store as Secrets Manager has it, until cancelled. Errors are logged once, and tried again."""
    await Follower(users, lambda: _client(region)).run(refresh_s=refresh_ms / 1000)


class Follower:
    """Reads again and again; remembers what it has complained of, so that each fault is one line."""

    def __init__(self, users: ScramUsers, make_client: Callable[[], SecretsManager]) -> None:
        self._users = users
        self._make_client = make_client
        self._client: SecretsManager | None = None
        self._told: Mapping[str, str] = {}
        self._clashes: Mapping[str, str] = {}
        self._unread: str | None = None

    async def run(self, *, refresh_s: float) -> None:
        """Refresh for ever."""
        while True:
            read = await self.refresh()
            await asyncio.sleep(refresh_s if read else min(refresh_s, RETRY_S))

    async def refresh(self) -> bool:
        """Look once; whether it could be done. Without an answer all users stay."""
        known = self._users.by_secrets
        try:
            reading = await asyncio.to_thread(self._read, known)
            self._users.replace_secrets(reading.users)
        except Exception as error:  # noqa: BLE001 - boto's errors are many, and none may end the broker
            self._complain(f"{type(error).__name__}: {error}")
            return False
        self._recover(reading)
        return True

    def _read(self, known: Mapping[str, SecretUser]) -> Reading:
        if self._client is None:
            self._client = self._make_client()
        return read(self._client, known)

    def _complain(self, reason: str) -> None:
        if reason != self._unread:
            logger.error("SCRAM users cannot be read from Secrets Manager, and stay as they are: %s", reason)
        self._unread = reason

    def _recover(self, reading: Reading) -> None:
        if self._unread is not None:
            logger.info("SCRAM users are read from Secrets Manager again")
        self._unread = None
        for arn, fault in reading.faults.items():
            if self._told.get(arn) != fault:
                logger.error("secret %s makes no SCRAM user: %s", arn, fault)
        self._told = reading.faults
        self._warn_of(reading.clashes)

    def _warn_of(self, clashes: Mapping[str, str]) -> None:
        for arn, holding in clashes.items():
            if self._clashes.get(arn) != holding:
                logger.warning(
                    "secrets %s and %s have the same user name: the password of %s holds, the first by name;"
                    " give each secret a user name of its own, or delete one",
                    secret_name(holding),
                    secret_name(arn),
                    secret_name(holding),
                )
        self._clashes = clashes


def read(client: SecretsManager, known: Mapping[str, SecretUser]) -> Reading:
    """Find the users of all secrets; only of those whose version is new the value is asked and salted.

    A secret that is gone takes its user along; one that cannot be read or understood keeps the user that it
    made before. Raises what boto3 raises when the list itself cannot be had.
    """
    users: dict[str, SecretUser] = {}
    faults: dict[str, str] = {}
    for arn, version_id in _listed(client):
        user = known.get(arn)
        if user is None or user.version_id != version_id:
            try:
                user = _user(client, arn, user)
            except UnusableSecret as fault:
                faults[arn] = str(fault)
        if user is not None:
            users[arn] = user
    return Reading(users=users, faults=faults, clashes=_clashes(users))


def _clashes(users: Mapping[str, SecretUser]) -> Mapping[str, str]:
    holding: dict[str, str] = {}
    first = {arn: holding.setdefault(users[arn].username, arn) for arn in sorted(users, key=precedence)}
    return {arn: other for arn, other in first.items() if arn != other}


def _listed(client: SecretsManager) -> Iterator[tuple[str, str | None]]:
    """Each secret's ARN and current version, by ARN; None where the list does not tell the version."""
    found: dict[str, str | None] = {}
    page: dict[str, Any] = {}
    while True:
        reply = client.list_secrets(Filters=[{"Key": "name", "Values": [PREFIX]}], MaxResults=PAGE, **page)
        for each in reply["SecretList"]:
            if each["Name"].startswith(PREFIX) and "DeletedDate" not in each:
                found[each["ARN"]] = _current(each)
        if len(found) > USERS_MAX:
            raise RuntimeError(f"more than {USERS_MAX} secrets begin with {PREFIX}: MSK takes no more users")
        if not reply.get("NextToken"):
            break
        page = {"NextToken": reply["NextToken"]}
    yield from sorted(found.items())


def _current(listed: Mapping[str, Any]) -> str | None:
    stages: Mapping[str, list[str]] = listed.get("SecretVersionsToStages") or {}
    return next((version for version, names in stages.items() if CURRENT in names), None)


def _user(client: SecretsManager, arn: str, known: SecretUser | None) -> SecretUser:
    """Ask for the value and salt it. Raises UnusableSecret."""
    try:
        value = client.get_secret_value(SecretId=arn)
    except Exception as error:  # boto's errors are many; the other secrets must not suffer
        raise UnusableSecret(f"its value cannot be read: {type(error).__name__}: {error}") from error
    if known is not None and known.version_id == value["VersionId"]:
        return known
    username, password = _parsed(value.get("SecretString"))
    return SecretUser(
        version_id=value["VersionId"],
        username=username,
        credentials={mechanism: derive(mechanism, password) for mechanism in SCRAM_NAMES},
    )


def _parsed(text: str | None) -> tuple[str, str]:
    """Read MSK's form of a secret. Raises UnusableSecret, with nothing of the secret in it or behind it."""
    content = _json(text)
    if not isinstance(content, dict) or set(content) != MEMBERS:
        raise UnusableSecret('it must be a JSON object of exactly "username" and "password"')
    username, password = content["username"], content["password"]
    if not (isinstance(username, str) and isinstance(password, str) and username and password):
        raise UnusableSecret('"username" and "password" must be strings, and not empty')
    # Kafka: ScramMessages.SASLNAME. Other names could never log in.
    if not username.isascii() or "\0" in username:
        raise UnusableSecret('"username" must be ASCII: SCRAM in Kafka knows no other names')
    if "\0" in password or not _encodes(password):
        raise UnusableSecret('"password" must be text without a NUL')
    return username, password


def _json(text: str | None) -> Any:
    try:
        return json.loads(text or "")
    except ValueError:
        return None  # the parser's error holds the text: it must not be anybody's context


def _encodes(text: str) -> bool:
    return not any("\ud800" <= each <= "\udfff" for each in text)


def _client(region: str) -> SecretsManager:
    import boto3  # noqa: PLC0415 - half a second and 20 MB that only those pay who ask for it
    from botocore.config import Config  # noqa: PLC0415 - the same

    client: SecretsManager = boto3.client(
        "secretsmanager",
        region_name=region,
        config=Config(connect_timeout=TIMEOUT_S, read_timeout=TIMEOUT_S, retries={"total_max_attempts": 1}),
    )
    return client
