"""DescribeUserScramCredentials and AlterUserScramCredentials (KIP-554), both version 0.

Acts on the users that were made here; those of Secrets Manager are not part of Kafka's API.
Checks, codes and sentences are those of Kafka's ScramControlManager and ScramImage.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from tidemill_broker.apis.api import Api, Rejected
from tidemill_broker.apis.broker import Broker
from tidemill_broker.apis.request import Request, cluster_right
from tidemill_broker.apis.turns import Steps
from tidemill_broker.auth.authorizer import CLUSTER_NAME, Operation, ResourceType
from tidemill_broker.auth.scram.keys import (
    ITERATIONS_MAX,
    ITERATIONS_MIN,
    ScramCredential,
    ScramName,
    credential_of,
)
from tidemill_broker.auth.scram.users import Credentials, TooManyUsers
from tidemill_broker.protocol.errors import ErrorCode

# Kafka: org.apache.kafka.clients.admin.ScramMechanism.
MECHANISMS: Final[Mapping[int, ScramName]] = {1: "SCRAM-SHA-256", 2: "SCRAM-SHA-512"}
TYPES: Final = {name: code for code, name in MECHANISMS.items()}
# The file of users is written whole with each change, and anyone may ask for the salt. (Kafka has no limits.)
USERS_MAX: Final = 10_000
ITEMS_MAX: Final = 10_000
NAME_CHARACTERS_MAX: Final = 1_000
SALT_BYTES_MAX: Final = 1_000
UNAUTHORIZED: Final = "Cluster authorization failed."
TWICE: Final = "A user credential cannot be altered twice in the same request"

Key = tuple[str, ScramName]
# What is to be done to a user, None for a deletion; or why that is impossible, whatever users there are.
_Change = tuple[str, tuple[Key, ScramCredential | None] | Rejected]
_Make = Callable[[Key, Any], ScramCredential | None]


def describe_user_scram_credentials(broker: Broker, request: Request) -> Steps[Any]:
    """Answer DescribeUserScramCredentials: mechanisms and iterations of the named users, or of all."""
    reply = request.reply
    allowed = request.allows(Operation.DESCRIBE, ResourceType.CLUSTER, CLUSTER_NAME)
    asked = Counter(user.name for user in request.body.users or ()) or Counter(
        list(broker.scram_users.by_api)
    )
    if not allowed:
        asked.clear()
    results = []
    for name, times in asked.items():
        results.append(_described(broker, reply, name, times))
        yield
    return reply.DescribeUserScramCredentialsResponse(
        error_code=ErrorCode.none if allowed else ErrorCode.cluster_authorization_failed,
        error_message="" if allowed else UNAUTHORIZED,
        results=tuple(results),
    )


def _described(broker: Broker, reply: Any, name: str, times: int) -> Any:
    credentials = broker.scram_users.by_api.get(name, {})
    error, message = ErrorCode.none, ""  # not null, as Kafka's
    if times > 1:
        error = ErrorCode.duplicate_resource
        message = f"Cannot describe SCRAM credentials for the same user twice in a single request: {name}"
    elif not credentials:
        error = ErrorCode.resource_not_found
        message = f"Attempt to describe a user credential that does not exist: {name}"
    told = credentials if error is ErrorCode.none else {}
    return reply.DescribeUserScramCredentialsResult(
        user=name,
        error_code=error,
        error_message=message,
        credential_infos=tuple(
            reply.CredentialInfo(mechanism=TYPES[mechanism], iterations=each.iterations)
            for mechanism, each in told.items()
        ),
    )


def alter_user_scram_credentials(broker: Broker, request: Request) -> Steps[Any]:
    """Answer AlterUserScramCredentials: what can be done is done together, the rest is rejected by user."""
    allowed = request.allows(Operation.ALTER, ResourceType.CLUSTER, CLUSTER_NAME)
    faults: dict[str, Rejected] = {}
    if not allowed:
        unauthorized = Rejected(ErrorCode.cluster_authorization_failed, UNAUTHORIZED)
        faults = dict.fromkeys(_names(request), unauthorized)
    elif len(request.body.deletions) + len(request.body.upsertions) > ITEMS_MAX:
        too_many = Rejected(ErrorCode.policy_violation, f"A request alters {ITEMS_MAX} users at most")
        faults = dict.fromkeys(_names(request), too_many)
    changes = yield from _changes(request, faults)
    # From here on others do not have a turn: the plan is made of the users of now.
    plan = _plan(broker, changes, faults)
    try:
        if plan:
            broker.scram_users.alter(
                deletions=[key for key, credential in plan.items() if credential is None],
                upsertions={key: credential for key, credential in plan.items() if credential is not None},
            )
    except OSError as error:
        failed = Rejected(ErrorCode.kafka_storage_error, f"The broker's disk failed: {error.strerror}.")
        faults |= dict.fromkeys((name for name, _ in plan), failed)
    except TooManyUsers as error:
        too_many = Rejected(ErrorCode.policy_violation, str(error))
        faults |= dict.fromkeys((name for name, _ in plan), too_many)
    return (yield from _altered(request, [name for name, _ in plan if name not in faults], faults))


def _names(request: Request) -> Iterable[str]:
    return sorted({each.name for each in (*request.body.deletions, *request.body.upsertions)})


def _changes(request: Request, faults: Mapping[str, Rejected]) -> Steps[Sequence[_Change]]:
    """Check each item and make its keys: all that does not depend on the users that there are."""
    changes: list[_Change] = []
    items: list[tuple[Any, _Make]] = [(each, _deleted) for each in request.body.deletions]
    items += [(each, _upserted) for each in request.body.upsertions]
    for each, make in items:
        if each.name in faults:
            continue
        try:
            key = _key(each)
            changes.append((each.name, (key, make(key, each))))
        except Rejected as fault:
            changes.append((each.name, fault))
        yield
    return changes


def _plan(
    broker: Broker, changes: Iterable[_Change], faults: dict[str, Rejected]
) -> Mapping[Key, ScramCredential | None]:
    """Make of a request what is to be done to each user, None for a deletion; what cannot be is a fault."""
    plan: dict[Key, ScramCredential | None] = {}
    done: dict[str, Key] = {}
    there = broker.scram_users.by_api
    users = set(there)
    for name, change in changes:
        if name in faults:
            continue
        if name in done:
            plan.pop(done[name])
            faults[name] = Rejected(ErrorCode.duplicate_resource, TWICE)
            continue
        fault = change if isinstance(change, Rejected) else _impossible(*change, there, users)
        if isinstance(fault, Rejected):
            faults[name] = fault
        elif not isinstance(change, Rejected):
            key, credential = change
            plan[key] = credential
            done[name] = key
            users.add(name)
    return plan


# Kafka's checks, in its order.


def _key(asked: Any) -> Key:
    mechanism = MECHANISMS.get(asked.mechanism)
    if not asked.name:
        raise Rejected(ErrorCode.unacceptable_credential, "Username must not be empty")
    if mechanism is None:
        raise Rejected(ErrorCode.unsupported_sasl_mechanism, "Unknown SCRAM mechanism")
    return asked.name, mechanism


def _deleted(_key: Key, _asked: Any) -> None:
    return None


def _upserted(key: Key, asked: Any) -> ScramCredential:
    name, mechanism = key
    faults = {
        "Too few iterations": asked.iterations < ITERATIONS_MIN,
        "Too many iterations": asked.iterations > ITERATIONS_MAX,
        # Kafka fails on it with UNKNOWN_SERVER_ERROR.
        "The salted password must not be empty": not asked.salted_password,
        f"A user name has {NAME_CHARACTERS_MAX} characters at most": len(name) > NAME_CHARACTERS_MAX,
        f"A salt has {SALT_BYTES_MAX} bytes at most": len(asked.salt) > SALT_BYTES_MAX,
    }
    for message, is_so in faults.items():
        if is_so:
            raise Rejected(ErrorCode.unacceptable_credential, message)
    return credential_of(mechanism, asked.salted_password, salt=asked.salt, iterations=asked.iterations)


def _impossible(
    key: Key, credential: ScramCredential | None, there: Mapping[str, Credentials], users: Collection[str]
) -> Rejected | None:
    """Tell why the users of now do not allow a change."""
    name, mechanism = key
    if credential is None:
        if mechanism in there.get(name, {}):
            return None
        message = "Attempt to delete a user credential that does not exist"
        return Rejected(ErrorCode.resource_not_found, message)
    if name in users or len(users) < USERS_MAX:
        return None
    message = f"There may be {USERS_MAX} users: delete others first"
    return Rejected(ErrorCode.unacceptable_credential, message)


def _altered(request: Request, done: Iterable[str], faults: Mapping[str, Rejected]) -> Steps[Any]:
    reply = request.reply
    results = []
    for name in done:
        results.append(
            reply.AlterUserScramCredentialsResult(user=name, error_code=ErrorCode.none, error_message=None)
        )
        yield
    for name, fault in faults.items():
        results.append(
            reply.AlterUserScramCredentialsResult(
                user=name, error_code=fault.code, error_message=fault.message
            )
        )
        yield
    return reply.AlterUserScramCredentialsResponse(results=tuple(results))


APIS: Final = (
    Api(
        key=50,
        name="DescribeUserScramCredentials",
        min_version=0,
        max_version=0,
        handle=describe_user_scram_credentials,
        right=cluster_right(Operation.DESCRIBE),
    ),
    Api(
        key=51,
        name="AlterUserScramCredentials",
        min_version=0,
        max_version=0,
        handle=alter_user_scram_credentials,
        right=cluster_right(Operation.ALTER),
    ),
)
