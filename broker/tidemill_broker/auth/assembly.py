"""Puts `auth` together as the settings say: the authorizer, each listener's mechanisms, and what is watched.

`__main__` calls `assemble` and runs the watchers. A broker with the plaintext listener alone starts
without cryptography and botocore: what only another listener uses is imported where that one is assembled.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from tidemill_broker.auth.acl.authorizer import AclAuthorizer, parse_super_users
from tidemill_broker.auth.acl.store import AclStore
from tidemill_broker.auth.authorizer import Authorizer
from tidemill_broker.auth.authorizers import ByPrincipal
from tidemill_broker.auth.mechanism import Mechanism
from tidemill_broker.auth.scram.users import ScramUsers
from tidemill_broker.auth.tls.contexts import CA_FILE, KEYSTORE_FILE, ClientAuth, TlsContexts, TlsFault
from tidemill_broker.auth.tls.principal_rules import PrincipalRules
from tidemill_broker.errors import BrokerError
from tidemill_broker.listeners import ListenerName
from tidemill_broker.settings import Settings

logger = logging.getLogger(__name__)


class AuthFault(BrokerError):
    """Settings or files with which nobody could log in or be authorized; the text names the fix."""


@dataclass(slots=True, kw_only=True)
class Auth:
    """What the broker needs of `auth`. `certificates` None: no listener does TLS."""

    authorizer: Authorizer
    acls: AclStore
    scram_users: ScramUsers
    certificates: TlsContexts | None = None
    mechanisms: dict[ListenerName, Mapping[str, Mechanism]] = field(default_factory=dict)
    watchers: dict[str, Callable[[], Coroutine[Any, Any, None]]] = field(default_factory=dict)


def assemble(settings: Settings, *, cluster_arn: str, now_ms: Callable[[], int]) -> Auth:
    """Open every store and file that the settings ask for. Raises AuthFault."""
    _check(settings)
    acls_file, users_file = settings.data_dir / "acls.json", settings.data_dir / "scram.json"
    with _opening(acls_file):
        acls = AclStore(acls_file)
    with _opening(users_file):
        users = ScramUsers(users_file)
        if settings.tidemill_scram_secrets != "on":
            users.replace_secrets({})
    by_acls = AclAuthorizer(
        acls,
        super_users=parse_super_users(settings.super_users),
        allow_everyone=settings.allow_everyone_if_no_acl_found,
    )
    auth = Auth(authorizer=ByPrincipal(acls=by_acls, iam=None), acls=acls, scram_users=users)
    if settings.listening.keys() - {"plaintext"}:
        auth.certificates = _certificates(settings)
        auth.watchers["certificates"] = auth.certificates.watch
    if "scram" in settings.listening:
        _add_scram(settings, auth)
    if "iam" in settings.listening:
        _add_iam(settings, auth, by_acls, cluster_arn, now_ms)
    _warn_of_anonymous(settings)
    return auth


def _warn_of_anonymous(settings: Settings) -> None:
    """Tell which listeners ask for no login, where others do; with plaintext alone nobody expects one."""
    anonymous = settings.anonymous_listeners
    if anonymous and settings.allow_everyone_if_no_acl_found and settings.listening.keys() - {"plaintext"}:
        logger.warning(
            "anybody may connect as User:ANONYMOUS (listeners: %s) and do all that no ACL speaks of,"
            " as on MSK, even make users and ACLs: --set ssl.client.auth=required and no plaintext listener"
            " keep them out, --set allow.everyone.if.no.acl.found=false leaves them no rights",
            ", ".join(anonymous),
        )


def _check(settings: Settings) -> None:
    for name, parse in (("super.users", parse_super_users), ("ssl.principal.mapping.rules", PrincipalRules)):
        text = settings.kafka_values()[name]
        try:
            parse(str(text))
        except ValueError as fault:
            raise AuthFault(f"--set {name}={text}: {fault}") from None


def _certificates(settings: Settings) -> TlsContexts:
    from tidemill_broker.auth.tls.certificates import Certificates  # noqa: PLC0415 - for the TLS listeners alone

    listeners = [name for name in settings.listening if name != "plaintext"]
    keystore = _file(settings.ssl_keystore_location, settings.tls_dir, KEYSTORE_FILE)
    if keystore is None:
        needing = ", ".join(sorted(listeners))
        raise AuthFault(
            f"listeners that use TLS ({needing}) need a certificate: make one by"
            " `tidemill broker init-tls DIR` and give --tls-dir DIR,"
            " or name your own by --set ssl.keystore.location=FILE"
        )
    truststore = _file(settings.ssl_truststore_location, settings.tls_dir, CA_FILE)
    # Only the tls listener asks for clients' certificates.
    client_auth = settings.ssl_client_auth if "tls" in settings.listening else "none"
    try:
        advertised: dict[str, str] = {name: settings.advertised(name)[0] for name in listeners}
        return Certificates(keystore, truststore, cast("ClientAuth", client_auth), advertised=advertised)
    except TlsFault as fault:
        raise AuthFault(str(fault)) from None


def _file(location: str, directory: Path | None, name: str) -> Path | None:
    if location:
        return Path(location)
    return None if directory is None else directory / name


def _add_scram(settings: Settings, auth: Auth) -> None:
    from tidemill_broker.auth.scram.mechanism import ScramMechanism  # noqa: PLC0415 - for the scram listener alone
    from tidemill_broker.auth.scram.plain import PlainMechanism  # noqa: PLC0415 - for the scram listener alone
    from tidemill_broker.auth.scram.secrets_manager import follow  # noqa: PLC0415 - for the scram listener alone

    users = auth.scram_users
    offered: dict[str, Callable[[], Mechanism]] = {
        "SCRAM-SHA-512": lambda: ScramMechanism("SCRAM-SHA-512", users),
        "SCRAM-SHA-256": lambda: ScramMechanism("SCRAM-SHA-256", users),
        "PLAIN": lambda: PlainMechanism(users),
    }
    named = [name.strip() for name in settings.sasl_enabled_mechanisms.split(",")]
    auth.mechanisms["scram"] = {name: offered[name]() for name in named}
    if settings.tidemill_scram_secrets == "on":
        refresh_ms, region = settings.tidemill_scram_secrets_refresh_ms, settings.region
        auth.watchers["SCRAM secrets"] = lambda: follow(users, refresh_ms=refresh_ms, region=region)


def _add_iam(
    settings: Settings, auth: Auth, acls: Authorizer, cluster_arn: str, now_ms: Callable[[], int]
) -> None:
    from tidemill_broker.auth.iam.authorizer import IamAuthorizer  # noqa: PLC0415 - for the iam listener alone
    from tidemill_broker.auth.iam.identities import Identities  # noqa: PLC0415 - for the iam listener alone
    from tidemill_broker.auth.iam.identity_file import FILE_NAME  # noqa: PLC0415 - for the iam listener alone
    from tidemill_broker.auth.iam.msk_iam import MskIamMechanism  # noqa: PLC0415 - for the iam listener alone
    from tidemill_broker.auth.iam.oauthbearer import OauthBearerMechanism  # noqa: PLC0415 - for the iam listener alone

    named = [Path(name.strip()) for name in settings.tidemill_identity_files.split(",") if name.strip()]
    files = named or [settings.data_dir / FILE_NAME]
    try:
        identities = Identities(files)
    except (ValueError, OSError) as fault:
        raise AuthFault(str(fault)) from None
    by_policies = IamAuthorizer(identities, cluster_arn=cluster_arn, now_ms=now_ms)
    certificates = auth.certificates
    assert certificates is not None, "the iam listener does TLS"
    advertised, _ = settings.advertised("iam")
    mechanisms: list[Mechanism] = [
        OauthBearerMechanism(identities, by_policies, region=settings.region, now_ms=now_ms),
        MskIamMechanism(
            identities,
            by_policies,
            region=settings.region,
            hosts=lambda: certificates.names | {advertised},
            now_ms=now_ms,
        ),
    ]
    auth.authorizer = ByPrincipal(acls=acls, iam=by_policies)
    auth.mechanisms["iam"] = {mechanism.name: mechanism for mechanism in mechanisms}
    auth.watchers["identities"] = identities.watch


@contextmanager
def _opening(path: Path) -> Iterator[None]:
    """Fail the start for a file that cannot be read: without it, other rights would apply silently."""
    try:
        yield
    except (ValueError, KeyError, TypeError, RecursionError, OSError) as error:
        raise AuthFault(
            f"{path} cannot be read ({error}); restore it or start with another --data-dir"
        ) from error
