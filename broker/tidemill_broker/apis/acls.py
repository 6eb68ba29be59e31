"""DescribeAcls 1-3, CreateAcls 1-3, DeleteAcls 1-3: Kafka's ACLs are listed and changed.

A change is on disk before it is answered, and holds from then on. Texts and codes are those of Apache Kafka's
AclApis and AclControlManager.
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from itertools import islice
from operator import itemgetter
from typing import Any, Final, TypeVar

from tidemill_broker.apis.api import Api, CloseConnection, Rejected
from tidemill_broker.apis.broker import Broker
from tidemill_broker.apis.rejections import rejecting
from tidemill_broker.apis.request import Request, cluster_right
from tidemill_broker.apis.turns import Steps
from tidemill_broker.auth.acl.rules import Acl, AclFilter, AclRules, PatternType, Permission
from tidemill_broker.auth.acl.store import TooManyAcls
from tidemill_broker.auth.authorizer import CLUSTER_NAME, Operation, ResourceType
from tidemill_broker.protocol.errors import ErrorCode
from tidemill_broker.protocol.schema import ResponseSchema

# Kafka: QuorumController.MAX_RECORDS_PER_USER_OP.
CHANGES_MAX: Final = 10_000
# Kafka has no limit; a few filters that name nothing would keep all other requests waiting.
LOOKS_MAX: Final = 200_000

Code = TypeVar("Code", bound=IntEnum)
Pattern = tuple[ResourceType, str, PatternType]


def describe_acls(broker: Broker, request: Request) -> Steps[Any]:
    """Answer DescribeAcls, sorted by resource; a filter of codes that Kafka does not know finds nothing."""
    reply = request.reply
    wanted = _filter(request.body)
    try:
        _authorize(request, Operation.DESCRIBE)
    except Rejected as rejected:
        return reply.DescribeAclsResponse(
            error_code=rejected.code, error_message=rejected.message, resources=()
        )
    found = yield from _by_pattern(broker.acls.rules, wanted)
    resources = []
    for (resource_type, name, pattern_type), entries in sorted(found.items(), key=itemgetter(0)):
        described = []
        for acl in entries:
            described.append(_description(reply, acl))
            yield
        resources.append(
            reply.DescribeAclsResource(
                resource_type=resource_type,
                resource_name=name,
                pattern_type=pattern_type,
                acls=tuple(described),
            )
        )
    return reply.DescribeAclsResponse(error_code=ErrorCode.none, error_message="", resources=tuple(resources))


def _by_pattern(rules: AclRules, wanted: AclFilter) -> Steps[Mapping[Pattern, Sequence[Acl]]]:
    """Find what a filter means among the rules of now, by the pattern of the resource."""
    by_pattern: dict[Pattern, list[Acl]] = {}
    for acl in list(rules.candidates(wanted)):
        if wanted.matches(acl):
            by_pattern.setdefault((acl.resource_type, acl.name, acl.pattern_type), []).append(acl)
        yield
    return by_pattern


def _description(reply: ResponseSchema, acl: Acl) -> Any:
    return reply.AclDescription(
        principal=acl.principal,
        host=acl.host,
        operation=acl.operation,
        permission_type=acl.permission,
    )


def create_acls(broker: Broker, request: Request) -> Steps[Any]:
    """Answer CreateAcls; those that are there already are no error."""
    reply = request.reply
    acls = []
    for creation in request.body.creations:
        acls.append(_acl(creation))
        yield
    outcomes: list[Rejected | None]
    try:
        _authorize(request, Operation.ALTER)
        outcomes = []
        for acl in acls:
            outcomes.append(_rejection(acl))
            yield
        possible = [acl for acl, rejection in zip(acls, outcomes, strict=True) if rejection is None]
        yield from _add(broker, possible)
    except Rejected as rejected:
        outcomes = [rejected] * len(acls)
    results = (
        reply.AclCreationResult(error_code=ErrorCode.none, error_message="")
        if rejection is None
        else reply.AclCreationResult(error_code=rejection.code, error_message=rejection.message)
        for rejection in outcomes
    )
    return reply.CreateAclsResponse(results=tuple(results))


def _add(broker: Broker, acls: Sequence[Acl]) -> Steps[None]:
    new = {acl for acl in acls if acl not in broker.acls.rules}
    if len(new) > CHANGES_MAX:
        raise Rejected(ErrorCode.policy_violation, "Unable to perform excessively large batch operation.")
    try:
        with rejecting():
            yield from broker.acls.add_in_turns(acls)
    except TooManyAcls as error:
        raise Rejected(ErrorCode.policy_violation, str(error)) from error


def _rejection(acl: Acl) -> Rejected | None:
    """Tell why an ACL cannot be, in Kafka's order.

    Kafka gives UNKNOWN_SERVER_ERROR for the whole request where a code is ANY or MATCH; that is the
    client's mistake, and is answered as one.
    """
    fault = None
    if acl.resource_type is ResourceType.CLUSTER and acl.name != CLUSTER_NAME:
        fault = f"The only valid name for the CLUSTER resource is {CLUSTER_NAME}"
    elif not acl.name:
        fault = "Invalid empty resource name"
    elif acl.resource_type in (ResourceType.UNKNOWN, ResourceType.ANY):
        fault = f"Invalid resourceType {acl.resource_type.name}"
    elif acl.pattern_type not in (PatternType.LITERAL, PatternType.PREFIXED):
        fault = f"Invalid patternType {acl.pattern_type.name}"
    elif acl.operation in (Operation.UNKNOWN, Operation.ANY):
        fault = f"Invalid operation {acl.operation.name}"
    elif acl.permission not in (Permission.DENY, Permission.ALLOW):
        fault = f"Invalid permissionType {acl.permission.name}"
    elif ":" not in acl.principal:
        fault = (
            f"Could not parse principal from `{acl.principal}` (no colon is present separating the"
            " principal type from the principal name)"
        )
    return None if fault is None else Rejected(ErrorCode.invalid_request, fault)


def delete_acls(broker: Broker, request: Request) -> Steps[Any]:
    """Answer DeleteAcls: no filter sees what another of the request has deleted."""
    reply = request.reply
    filters = []
    for wanted in request.body.filters:
        filters.append(_filter(wanted))
        yield
    found: Sequence[Sequence[Acl] | Rejected]
    try:
        _authorize(request, Operation.ALTER)
        found = yield from _matches(broker.acls.rules, filters)
        with rejecting():
            yield from broker.acls.delete_in_turns(
                acl for acls in found if not isinstance(acls, Rejected) for acl in acls
            )
    except Rejected as rejected:
        found = [rejected] * len(filters)
    results = []
    for acls in found:
        results.append((yield from _filter_result(reply, acls)))
        yield
    return reply.DeleteAclsResponse(filter_results=tuple(results))


def _filter_result(reply: ResponseSchema, acls: Sequence[Acl] | Rejected) -> Steps[Any]:
    if isinstance(acls, Rejected):
        return reply.DeleteAclsFilterResult(
            error_code=acls.code, error_message=acls.message, matching_acls=()
        )
    deleted = []
    for acl in acls:
        deleted.append(_deleted(reply, acl))
        yield
    return reply.DeleteAclsFilterResult(
        error_code=ErrorCode.none, error_message=None, matching_acls=tuple(deleted)
    )


def _deleted(reply: ResponseSchema, acl: Acl) -> Any:
    return reply.DeleteAclsMatchingAcl(
        error_code=ErrorCode.none,
        error_message=None,
        resource_type=acl.resource_type,
        resource_name=acl.name,
        pattern_type=acl.pattern_type,
        principal=acl.principal,
        host=acl.host,
        operation=acl.operation,
        permission_type=acl.permission,
    )


def _matches(rules: AclRules, filters: Iterable[AclFilter]) -> Steps[list[Sequence[Acl] | Rejected]]:
    """Find what each filter means, or why it cannot be. Raises Rejected where that is too much in all."""
    found: list[Sequence[Acl] | Rejected] = []
    matched = looks = 0
    for wanted in filters:
        yield
        rejection = _unknown(wanted)
        if rejection is not None:
            found.append(rejection)
            continue
        acls = []
        for acl in list(islice(rules.candidates(wanted), LOOKS_MAX - looks + 1)):
            looks += 1
            if wanted.matches(acl):
                acls.append(acl)
            yield
        matched += len(acls)
        _check_bounds(looks, matched)
        found.append(acls)
    return found


def _check_bounds(looks: int, matched: int) -> None:
    if looks > LOOKS_MAX:
        raise Rejected(
            ErrorCode.invalid_request,
            f"The filters have to look at more than {LOOKS_MAX} acls: let them name resources or principals.",
        )
    if matched > CHANGES_MAX:
        raise Rejected(
            ErrorCode.invalid_request,
            f"Cannot remove more than {CHANGES_MAX} acls in a single delete operation.",
        )


def _unknown(wanted: AclFilter) -> Rejected | None:
    if ResourceType.UNKNOWN is wanted.resource_type or PatternType.UNKNOWN is wanted.pattern_type:
        return Rejected(ErrorCode.invalid_request, "Unknown patternFilter.")
    if Operation.UNKNOWN is wanted.operation or Permission.UNKNOWN is wanted.permission:
        return Rejected(ErrorCode.invalid_request, "Unknown entryFilter.")
    return None


def _authorize(request: Request, operation: Operation) -> None:
    if not request.allows(operation, ResourceType.CLUSTER, CLUSTER_NAME):
        needs = f"The request needs {operation.name} permission on the cluster."
        raise Rejected(ErrorCode.cluster_authorization_failed, needs)


def _acl(creation: Any) -> Acl:
    return Acl(
        resource_type=_code(ResourceType, creation.resource_type),
        pattern_type=_code(PatternType, creation.resource_pattern_type),
        name=creation.resource_name,
        principal=creation.principal,
        host=creation.host,
        operation=_code(Operation, creation.operation),
        permission=_code(Permission, creation.permission_type),
    )


def _filter(wanted: Any) -> AclFilter:
    return AclFilter(
        resource_type=_code(ResourceType, wanted.resource_type_filter),
        pattern_type=_code(PatternType, wanted.pattern_type_filter),
        name=wanted.resource_name_filter,
        principal=wanted.principal_filter,
        host=wanted.host_filter,
        operation=_code(Operation, wanted.operation),
        permission=_code(Permission, wanted.permission_type),
    )


def _code(codes: type[Code], code: int) -> Code:
    """Read a code; what Kafka does not know yet is UNKNOWN, but a client that sends that is at fault."""
    if code == 0:
        raise CloseConnection(f"an ACL request with {codes.__name__} UNKNOWN")
    try:
        return codes(code)
    except ValueError:
        return codes(0)


APIS: Final = (
    Api(
        key=29,
        name="DescribeAcls",
        min_version=1,
        max_version=3,
        handle=describe_acls,
        right=cluster_right(Operation.DESCRIBE),
    ),
    Api(
        key=30,
        name="CreateAcls",
        min_version=1,
        max_version=3,
        handle=create_acls,
        right=cluster_right(Operation.ALTER),
        elements_max=CHANGES_MAX,
    ),
    Api(
        key=31,
        name="DeleteAcls",
        min_version=1,
        max_version=3,
        handle=delete_acls,
        right=cluster_right(Operation.ALTER),
        elements_max=CHANGES_MAX,
    ),
)
