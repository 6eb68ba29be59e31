"""DescribeUserScramCredentials and AlterUserScramCredentials (KIP-554), both version 0.

Acts on the users that were made here; those of Secrets Manager are not part of Kafka's API.
Checks, codes and sentences are those of Kafka's ScramControlManager and ScramImage.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final

from tidemill_broker.apis.api import Api, Rejected
from tidemill_broker.apis.broker import Broker
from tidemill_broker.apis.request import Request, cluster_right
from tidemill_broker.auth.authorizer import CLUSTER_NAME, Operation, ResourceType
from tidemill_broker.auth.scram.keys import (
    ITERATIONS_MAX,
    ITERATIONS_MIN,
    ScramCredential,
    ScramName,
    credential_of,
)
from tidemill_broker.auth.scram.users import Credentials
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
_Check = Callable[[Key, Any, Mapping[str, Credentials], Collection[str]], ScramCredential | None]


def describe_user_scram_credentials(broker: Broker, request: Request) -> Any:
    """Answer DescribeUserScramCredentials: mechanisms and iterations of the named users, or of all."""
    reply = request.reply
    allowed = request.allows(Operation.DESCRIBE, ResourceType.CLUSTER, CLUSTER_NAME)
    asked = Counter(user.name for user in request.body.users or ()) or Counter(
        list(broker.scram_users.by_api)
    )
    if not allowed:
        asked.clear()
    return reply.DescribeUserScramCredentialsResponse(
        error_code=ErrorCode.none if allowed else ErrorCode.cluster_authorization_failed,
        error_message="" if allowed else UNAUTHORIZED,
        results=tuple(_described(broker, reply, name, times) for name, times in asked.items()),
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


def alter_user_scram_credentials(broker: Broker, request: Request) -> Any:
    """Answer AlterUserScramCredentials: what can be done is done together, the rest is rejected by user."""
    allowed = request.allows(Operation.ALTER, ResourceType.CLUSTER, CLUSTER_NAME)
    faults: dict[str, Rejected] = {}
    if not allowed:
        unauthorized = Rejected(ErrorCode.cluster_authorization_failed, UNAUTHORIZED)
        faults = dict.fromkeys(_names(request), unauthorized)
    elif len(request.body.deletions) + len(request.body.upsertions) > ITEMS_MAX:
        too_many = Rejected(ErrorCode.policy_violation, f"A request alters {ITEMS_MAX} users at most")
        faults = dict.fromkeys(_names(request), too_many)
    plan = _plan(broker, request, faults)
    try:
        if plan:
            broker.scram_users.alter(
                deletions=[key for key, credential in plan.items() if credential is None],
                upsertions={key: credential for key, credential in plan.items() if credential is not None},
            )
    except OSError as error:
        failed = Rejected(ErrorCode.kafka_storage_error, f"The broker's disk failed: {error.strerror}.")
        faults |= dict.fromkeys((name for name, _ in plan), failed)
    return _altered(request, [name for name, _ in plan if name not in faults], faults)


def _names(request: Request) -> Iterable[str]:
    return sorted({each.name for each in (*request.body.deletions, *request.body.upsertions)})


def _plan(
    broker: Broker, request: Request, faults: dict[str, Rejected]
) -> Mapping[Key, ScramCredential | None]:
    """Make of a request what is to be done to each user, None for a deletion; what cannot be is a fault."""
    plan: dict[Key, ScramCredential | None] = {}
    done: dict[str, Key] = {}
    users = set(broker.scram_users.by_api)
    items: list[tuple[Any, _Check]] = [(each, _deleted) for each in request.body.deletions]
    items += [(each, _upserted) for each in request.body.upsertions]
    for each, check in items:
        if each.name in faults:
            continue
        if each.name in done:
            plan.pop(done[each.name])
            faults[each.name] = Rejected(ErrorCode.duplicate_resource, TWICE)
            continue
        try:
            key = _key(each)
            plan[key] = check(key, each, broker.scram_users.by_api, users)
        except Rejected as fault:
            faults[each.name] = fault
        else:
            done[each.name] = key
            users.add(each.name)
    return plan


# Kafka's checks, in its order.


def _key(asked: Any) -> Key:
    mechanism = MECHANISMS.get(asked.mechanism)
    if not asked.name:
        raise Rejected(ErrorCode.unacceptable_credential, "Username must not be empty")
    if mechanism is None:
        raise Rejected(ErrorCode.unsupported_sasl_mechanism, "Unknown SCRAM mechanism")
    return asked.name, mechanism


def _deleted(key: Key, _asked: Any, there: Mapping[str, Credentials], _users: Collection[str]) -> None:
    name, mechanism = key
    if mechanism not in there.get(name, {}):
        message = "Attempt to delete a user credential that does not exist"
        raise Rejected(ErrorCode.resource_not_found, message)


def _upserted(
    key: Key, asked: Any, _there: Mapping[str, Credentials], users: Collection[str]
) -> ScramCredential:
    name, mechanism = key
    faults = {
        "Too few iterations": asked.iterations < ITERATIONS_MIN,
        "Too many iterations": asked.iterations > ITERATIONS_MAX,
        # Kafka fails on it with UNKNOWN_SERVER_ERROR.
        "The salted password must not be empty": not asked.salted_password,
        f"A user name has {NAME_CHARACTERS_MAX} characters at most": len(name) > NAME_CHARACTERS_MAX,
        f"A salt has {SALT_BYTES_MAX} bytes at most": len(asked.salt) > SALT_BYTES_MAX,
        f"There may be {USERS_MAX} users: delete others first": name not in users and len(users) >= USERS_MAX,
    }
    for message, is_so in faults.items():
        if is_so:
            raise Rejected(ErrorCode.unacceptable_credential, message)
    return credential_of(mechanism, asked.salted_password, salt=asked.salt, iterations=asked.iterations)


def _altered(request: Request, done: Iterable[str], faults: Mapping[str, Rejected]) -> Any:
    reply = request.reply
    results = [
        reply.AlterUserScramCredentialsResult(user=name, error_code=ErrorCode.none, error_message=None)
        for name in done
    ]
    results += [
        reply.AlterUserScramCredentialsResult(user=name, error_code=fault.code, error_message=fault.message)
        for name, fault in faults.items()
    ]
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
