"""Exports the embedded AWS's issued credentials to the broker: an identity file that follows moto's state.

IAM's API never returns a secret again, so only its issuer can export it: this runs inside moto's process
and writes each active key of an IAM user and each live AssumeRole session, with the policies that hold for it
now. What cannot be evaluated as on AWS is left out and logged: no key may do more than on AWS. Knows moto's
models and the broker's identity file; see docs/decisions/0970.
"""

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, Final

from moto.iam.models import AccessKey, Group, IAMBackend, ManagedPolicy, Role, User, iam_backends
from moto.sts.models import AssumedRole, sts_backends
from moto.utilities.utils import get_partition

from tidemill_broker.auth.iam.identities import read_identity
from tidemill_broker.auth.iam.identity_file import VERSION, IdentityFileError, write_document
from tidemill_local.secured.kept_secrets import POLICY_NAME, USER_NAME, KeptSecrets, user_policy

logger = logging.getLogger(__name__)

# The broker looks at the file four times a second too: a key is good half a second after it was made.
PERIOD_S: Final = 0.25
# The newest; a client that assumes a role before each message must not fill the file.
SESSIONS_MAX: Final = 1_000

Document = Mapping[str, Any]
Entry = dict[str, Any]


class NotExportable(Exception):
    """A key whose permissions cannot be exported; the message says why, and never quotes a policy."""


@dataclass(slots=True)
class Export:
    """The identity file, and what it was last given."""

    file: Path
    _written: Document | None = None
    _told: frozenset[str] = frozenset()
    _one_at_a_time: Lock = field(default_factory=Lock)

    def follow(self) -> None:
        """Write every change, for ever; for a thread of its own."""
        while True:
            time.sleep(PERIOD_S)
            self.once()

    def once(self) -> None:
        """Write the file if moto's state says something else than the last time; never raises."""
        with self._one_at_a_time:
            try:
                self._write_changes()
            except RuntimeError:
                # Requests change moto's dictionaries meanwhile; the next look is soon.
                return
            except OSError as error:
                self._complain(
                    f"{self.file} cannot be written ({error.strerror}), and says what it said before"
                )

    def _write_changes(self) -> None:
        left_out: list[str] = []
        content = {"version": VERSION, "identities": list(_entries(left_out, datetime.now(UTC)))}
        if content != self._written:
            write_document(self.file, content)
            self._written = content
        self._complain(*left_out)

    def _complain(self, *reasons: str) -> None:
        """Say what was not said the last time."""
        for reason in sorted(set(reasons) - self._told):
            logger.warning("key not exported to Kafka reason=%s", reason)
        self._told = frozenset(reasons)


def restore_user(kept: KeptSecrets, account_id: str, region: str) -> None:
    """Give moto the IAM user of `up` again, with the key that clients' configurations hold."""
    backend = iam_backends[account_id][get_partition(region)]
    backend.create_user(region, USER_NAME)
    backend.put_user_policy(USER_NAME, POLICY_NAME, json.dumps(user_policy(region, account_id)))
    key = backend.create_access_key(USER_NAME)
    del backend.access_keys[key.access_key_id]
    key.access_key_id, key.secret_access_key = kept.access_key_id, kept.secret_access_key
    backend.access_keys[key.access_key_id] = key


def _entries(left_out: list[str], now: datetime) -> Iterator[Entry]:
    for access_key_id, make in _live(now):
        try:
            entry = make()
            # One entry that the broker cannot read would hold up all: it keeps what the file last said.
            read_identity(entry, "its entry")
        except (NotExportable, IdentityFileError) as reason:
            left_out.append(f"{access_key_id}: {reason}")
        except Exception as error:  # noqa: BLE001 - one invalid key of moto's must not hold up the others
            left_out.append(f"{access_key_id}: {type(error).__name__} while its policies were read")
        else:
            yield entry


def _live(now: datetime) -> Iterator[tuple[str, Callable[[], Entry]]]:
    """The keys that are valid now, and how each is exported; all accounts and partitions."""
    for backend in _backends(iam_backends):
        for user in list(backend.users.values()):
            for key in list(user.access_keys):
                if key.status == "Active":
                    yield key.access_key_id, partial(_of_user, backend, user, key)
    for backend in _backends(sts_backends):
        for session in backend.assumed_roles[-SESSIONS_MAX:]:
            if _aware(session.expiration) > now:
                yield session.access_key_id, partial(_of_session, session)


def _of_user(backend: IAMBackend, user: User, key: AccessKey) -> Entry:
    holders: list[User | Group] = [
        user,
        *(group for group in list(backend.groups.values()) if user in group.users),
    ]
    return {
        "accessKeyId": key.access_key_id,
        "secretAccessKey": key.secret_access_key,
        "principalArn": user.arn,
        "policies": [document for holder in holders for document in _documents(holder)],
        "tags": _tags(user.tags),
    }


def _of_session(session: AssumedRole) -> Entry:
    backend = iam_backends[session.account_id][session.partition]
    role = next((role for role in list(backend.roles.values()) if role.arn == session.role_arn), None)
    if role is None:
        # moto lets anybody assume what is not there; AWS does not.
        raise NotExportable(f"there is no role {session.role_arn}")
    entry = {
        "accessKeyId": session.access_key_id,
        "secretAccessKey": session.secret_access_key,
        "sessionToken": session.session_token,
        "issued": _spelled(session.access_key.create_date),
        "expiration": _spelled(session.expiration),
        "principalArn": session.arn,
        "policies": _documents(role),
        "tags": _tags(role.tags),
    }
    if session.policy:
        entry["sessionPolicies"] = [_document(session.policy, "the session policy")]
    if role.permissions_boundary_arn:
        entry["permissionsBoundary"] = [_boundary(backend, role.permissions_boundary_arn)]
    return entry


def _documents(holder: User | Group | Role) -> list[Document]:
    """The inline and attached policies of one user, group or role."""
    found = [_document(text, name) for name, text in list(holder.policies.items())]
    return found + [_default_version(policy) for policy in list(holder.managed_policies.values())]


def _boundary(backend: IAMBackend, arn: str) -> Document:
    policy = backend.managed_policies.get(arn)
    if policy is None:
        raise NotExportable(f"the permissions boundary {arn} does not exist")
    return _default_version(policy)


def _default_version(policy: ManagedPolicy) -> Document:
    current = next(each for each in policy.versions if each.version_id == policy.default_version_id)
    return _document(current.document, policy.arn)


def _document(text: str, name: str) -> Document:
    try:
        document: Document = json.loads(text)
    except ValueError:
        raise NotExportable(f"{name} is not JSON") from None
    return document


def _tags(tags: Iterable[Mapping[str, str]] | None) -> Mapping[str, str]:
    return {tag["Key"]: tag["Value"] for tag in tags or ()}


def _spelled(moment: datetime) -> str:
    return _aware(moment).isoformat(timespec="milliseconds")


def _aware(moment: datetime) -> datetime:
    """Say that a time is UTC: moto leaves it out."""
    return moment.replace(tzinfo=UTC)


def _backends(accounts: Mapping[str, Any]) -> Iterator[Any]:
    for partitions in list(accounts.values()):
        yield from list(partitions.values())
