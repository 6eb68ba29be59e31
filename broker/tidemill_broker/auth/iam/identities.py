"""Who may log in by IAM: access keys, their secrets and policies, from files that are watched.

Owns the files' meaning and the one set of identities that all of them make; decides nothing. Logins and the
IAM authorizer ask it. The format is docs/decisions/0920.
"""

import asyncio
import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from tidemill_broker.auth.iam.identity_file import IdentityFileError, read_document
from tidemill_broker.auth.iam.policies import Policy, PolicyError, parse_policy

logger = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 0.25

_DOCUMENT_KEYS: Final = ("version", "identities", "clusterPolicy")
_NEEDED: Final = ("accessKeyId", "secretAccessKey", "principalArn", "policies")
_KEYS: Final = (
    *_NEEDED,
    "sessionToken",
    "issued",
    "expiration",
    "sessionPolicies",
    "permissionsBoundary",
    "tags",
)
_ACCESS_KEY_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
_SECRET: Final = re.compile(r"[\x21-\x7e]{1,8192}")
# IAM: "IAM identifiers"; names hold no spaces, and of `+=,.@-/` any.
_PRINCIPAL: Final = re.compile(
    r"arn:aws[a-z-]*:(iam::[0-9]{12}:(root|(user|role)/[\x21-\x7e]{1,600})"
    r"|sts::[0-9]{12}:(assumed-role|federated-user)/[\x21-\x7e]{1,600})"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """One access key: whose it is and what its policies say. `expires_ms` is since the epoch; None: never."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    principal_arn: str
    policies: tuple[Policy, ...] = ()
    session_policies: tuple[Policy, ...] | None = None
    permissions_boundary: tuple[Policy, ...] | None = None
    issued_ms: int | None = None
    expires_ms: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Content:
    """What one file holds, or all of them together."""

    identities: Mapping[str, Identity] = field(default_factory=dict)
    cluster_policy: Policy | None = None


class Identities:
    """The identities of several files; an access key, and the cluster policy, are the first's that has them.

    Raises IdentityFileError if a file cannot be used. Later, such a file keeps what it last held.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._sources = [_Source(file) for file in files]
        for source in self._sources:
            source.read()
        # One value, replaced as a whole: a thread that reloads never shows half of a change.
        self._current = (1, _merged(self._sources))

    @property
    def version(self) -> int:
        """Grows whenever the files were read again."""
        return self._current[0]

    @property
    def cluster_policy(self) -> Policy | None:
        """The resource-based policy of the cluster, where a file has one."""
        return self._current[1].cluster_policy

    def get(self, access_key_id: str) -> Identity | None:
        """Find the identity of an access key, expired or not."""
        return self._current[1].identities.get(access_key_id)

    def reload(self) -> None:
        """Take in the files that changed; a file that is gone holds nobody."""
        if sum(source.refresh() for source in self._sources):
            self._current = (self.version + 1, _merged(self._sources))

    async def watch(self) -> None:
        """Look for changes for ever."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if any(source.changed() for source in self._sources):
                await asyncio.to_thread(self.reload)


class _Source:
    """One file, and what it held when it could last be used."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.content = _Content()
        self._seen: object = None

    def changed(self) -> bool:
        return self._look() != self._seen

    def refresh(self) -> bool:
        """Read the file if it changed; tell whether its content was taken in."""
        if not self.changed():
            return False
        try:
            self.read()
        except IdentityFileError as error:
            logger.error("%s; what it held before stays in force", error)  # noqa: TRY400 - for people
            return False
        logger.info("read file=%s identities=%d", self.file, len(self.content.identities))
        return True

    def read(self) -> None:
        # Before its content: a change in between is seen at the next look.
        self._seen = self._look()
        try:
            document = read_document(self.file)
            self.content = _Content() if document is None else _content(document)
        except IdentityFileError as error:
            raise IdentityFileError(f"{self.file}: {error}") from error

    def _look(self) -> object:
        """Whatever changes with the file; its inode and change time tell a rename and a chmod."""
        try:
            status = os.stat(self.file)  # noqa: PTH116 - runs four times a second
        except OSError as error:
            return error.errno
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _merged(sources: Iterable[_Source]) -> _Content:
    identities: dict[str, Identity] = {}
    policy: Policy | None = None
    for source in sources:
        for access_key_id, identity in source.content.identities.items():
            if identities.setdefault(access_key_id, identity) is not identity:
                logger.error(
                    "%s: the access key %s is rejected, for another file has it; remove one of them",
                    source.file,
                    access_key_id,
                )
        if policy and source.content.cluster_policy:
            logger.error("%s: clusterPolicy is rejected, for another file has one; remove one", source.file)
        policy = policy or source.content.cluster_policy
    return _Content(identities=identities, cluster_policy=policy)


def _content(document: Mapping[str, Any]) -> _Content:
    _check_keys(document, _DOCUMENT_KEYS, "the file")
    entries = document.get("identities")
    if not isinstance(entries, list):
        raise IdentityFileError('"identities" must be a list; write [] for none')
    identities: dict[str, Identity] = {}
    for index, entry in enumerate(entries):
        identity = read_identity(entry, f"identities[{index}]")
        if identity.access_key_id in identities:
            raise IdentityFileError(f"the access key {identity.access_key_id} stands there twice; remove one")
        identities[identity.access_key_id] = identity
    policy = document.get("clusterPolicy")
    return _Content(
        identities=identities,
        cluster_policy=None if policy is None else _policy(policy, "clusterPolicy", resource_based=True),
    )


def read_identity(entry: object, place: str) -> Identity:
    """Read one entry of the list; `place` is where it stands. Raises IdentityFileError."""
    if not isinstance(entry, dict):
        raise IdentityFileError(f"{place} must be an object")
    _check_keys(entry, _KEYS, place)
    if missing := [name for name in _NEEDED if name not in entry]:
        raise IdentityFileError(f"{place} lacks {' and '.join(missing)}")
    key = _text(entry, "accessKeyId", _ACCESS_KEY_ID, place, "1 to 128 letters, digits, _ and -")
    place = f"{place} ({key})"
    principal = "an ARN such as arn:aws:iam::123456789012:user/alice"
    printable = "printable ASCII without spaces"
    temporary = entry.get("sessionToken") is not None
    return Identity(
        access_key_id=key,
        secret_access_key=_text(entry, "secretAccessKey", _SECRET, place, printable),
        session_token=_text(entry, "sessionToken", _SECRET, place, printable) if temporary else None,
        principal_arn=_text(entry, "principalArn", _PRINCIPAL, place, principal),
        policies=_policies(entry, "policies", place) or (),
        session_policies=_policies(entry, "sessionPolicies", place),
        permissions_boundary=_policies(entry, "permissionsBoundary", place),
        issued_ms=_moment_ms(entry, "issued", place),
        expires_ms=_moment_ms(entry, "expiration", place),
        tags=_tags(entry.get("tags"), place),
    )


def _check_keys(found: Mapping[str, Any], known: Sequence[str], place: str) -> None:
    for name in found.keys() - set(known):
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"it knows {', '.join(known)}"
        # Cut: a secret in the place of a name is not told whole.
        raise IdentityFileError(f"{place} has a key {name[:20]!r} that is not known; {hint}")


def _text(entry: Mapping[str, Any], name: str, pattern: re.Pattern[str], place: str, expected: str) -> str:
    value = entry[name]
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise IdentityFileError(f"{place}: {name} must be {expected}")
    return value


def _policies(entry: Mapping[str, Any], name: str, place: str) -> tuple[Policy, ...] | None:
    documents = entry.get(name)
    if documents is None:
        return None
    if not isinstance(documents, list):
        raise IdentityFileError(f"{place}: {name} must be a list of policy documents")
    return tuple(_policy(each, f"{place}: {name}[{index}]") for index, each in enumerate(documents))


def _policy(document: object, place: str, *, resource_based: bool = False) -> Policy:
    if not isinstance(document, dict):
        raise IdentityFileError(f"{place} must be a policy document, an object with Version and Statement")
    try:
        return parse_policy(document, resource_based=resource_based)
    except PolicyError as error:
        raise IdentityFileError(f"{place}: {error}") from error


def _moment_ms(entry: Mapping[str, Any], name: str, place: str) -> int | None:
    text = entry.get(name)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise IdentityFileError(f"{place}: {name} must be a time such as 2026-01-31T12:00:00Z")
    return int(moment.timestamp() * 1000)


def _tags(tags: object, place: str) -> Mapping[str, str]:
    if tags is None:
        return {}
    if not isinstance(tags, dict) or not all(isinstance(value, str) for value in tags.values()):
        raise IdentityFileError(f"{place}: tags must be an object of strings")
    return tags
