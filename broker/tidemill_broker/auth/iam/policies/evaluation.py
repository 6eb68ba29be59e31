"""IAM's decision: may this principal do this action to this resource, given all policies that apply.

Authority: IAM User Guide, "How AWS enforcement code logic evaluates requests to allow or deny access" and
"Cross-account policy evaluation logic". Organisations' policies (SCPs, RCPs) do not exist here.

See docs/decisions/0931.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tidemill_broker.auth.authorizer import Decision
from tidemill_broker.auth.iam.policies.patterns import Context
from tidemill_broker.auth.iam.policies.policy import Effect, Policy, Statement
from tidemill_broker.auth.iam.policies.principals import Caller, Match, parse_caller


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One action on one resource. `account_id` is the resource's; `context` has its keys in lower case."""

    action: str
    resource: str
    principal_arn: str
    account_id: str
    context: Context


@dataclass(frozen=True, slots=True, kw_only=True)
class Grants:
    """The policies that apply. `session` and `boundary` None: there is none, and nothing is limited by it."""

    identity: Sequence[Policy]
    session: Sequence[Policy] | None = None
    boundary: Sequence[Policy] | None = None
    resource: Policy | None = None


def evaluate(request: Request, grants: Grants) -> Decision:
    """Decide: an explicit deny anywhere wins, else somebody must allow, else it is denied."""
    caller = parse_caller(request.principal_arn)
    if caller is None:
        return _no(f"{request.principal_arn} is no principal that IAM knows")
    if denial := _explicit_denial(request, grants, caller):
        return _no(denial)
    granted = _granted_by_resource(request, grants, caller)
    if caller.account != request.account_id:
        return _across_accounts(request, grants, granted)
    if granted is Match.DIRECT:
        return Decision(allowed=True, reason="the cluster policy allows this principal")
    return _within_account(request, grants, caller, granted)


def _within_account(request: Request, grants: Grants, caller: Caller, granted: Match) -> Decision:
    if _is_unlimited_root(caller, grants):
        return Decision(allowed=True, reason="the account's root user may do everything")
    if granted is not Match.ROLE and not _allowed(request, grants.identity):
        return _no(f"no policy allows {_what(request)}")
    return _limited(request, grants)


def _across_accounts(request: Request, grants: Grants, granted: Match) -> Decision:
    """Both accounts must allow it: the cluster's by its policy, the caller's by theirs."""
    if granted is Match.NONE:
        return _no(f"no cluster policy allows another account's principal {_what(request)}")
    if not _allowed(request, grants.identity):
        return _no(f"no policy of the principal's own account allows {_what(request)}")
    return _limited(request, grants)


def _limited(request: Request, grants: Grants) -> Decision:
    for what, policies in (("permissions boundary", grants.boundary), ("session policy", grants.session)):
        if policies is not None and not _allowed(request, policies):
            return _no(f"the {what} does not allow {_what(request)}")
    return Decision(allowed=True, reason="allowed by policy")


def _is_unlimited_root(caller: Caller, grants: Grants) -> bool:
    """Tell a root user's own keys: nothing limits them. IAM attaches none to one; what is listed counts."""
    return (
        caller.kind == "root" and not grants.identity and grants.session is None and grants.boundary is None
    )


def _explicit_denial(request: Request, grants: Grants, caller: Caller) -> str | None:
    for what, policies in (
        ("an identity policy", grants.identity),
        ("the permissions boundary", grants.boundary or ()),
        ("the session policy", grants.session or ()),
        ("the cluster policy", [grants.resource] if grants.resource else ()),
    ):
        for statement in _applicable(request, policies, "Deny"):
            if statement.match(caller, bounded=grants.boundary is not None):
                return f"explicit deny in statement {statement.label} of {what} for {_what(request)}"
    return None


def _granted_by_resource(request: Request, grants: Grants, caller: Caller) -> Match:
    if grants.resource is None:
        return Match.NONE
    allowing = _applicable(request, [grants.resource], "Allow")
    return max((statement.match(caller, bounded=False) for statement in allowing), default=Match.NONE)


def _allowed(request: Request, policies: Sequence[Policy]) -> bool:
    return any(True for _ in _applicable(request, policies, "Allow"))


def _applicable(request: Request, policies: Sequence[Policy], effect: Effect) -> Iterator[Statement]:
    for policy in policies:
        for statement in policy.statements:
            if statement.effect == effect and statement.applies(
                request.action, request.resource, request.context
            ):
                yield statement


def _what(request: Request) -> str:
    return f"{request.action} on {request.resource}"


def _no(reason: str) -> Decision:
    return Decision(allowed=False, reason=reason)
