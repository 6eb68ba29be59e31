"""Owns the command line's way into the endpoint's Kafka: IAM where that is on, else SCRAM, mTLS, plaintext.

Asks the endpoint for all it needs: GetBootstrapBrokers for the ways in, Secrets Manager for the user, the
certificate and the CA that `up --auth` put there. So it works from any directory.
"""

import asyncio
import ssl
import tempfile
from collections.abc import Callable, Mapping
from typing import Any, Final

from tidemill_cli.clients import Endpoint
from tidemill_cli.errors import UserError
from tidemill_local.secured.aws_setup import CA_SECRET, CERTIFICATE_SECRET, SCRAM_SECRET

Options = Mapping[str, Any]


def kafka_options(there: Endpoint, given: str | None) -> Options:
    """Return options for aiokafka's clients; servers that the user names are plaintext."""
    if given:
        return {"bootstrap_servers": given}
    brokers = there.bootstrap_brokers()
    for name, options in _WAYS.items():
        if servers := brokers.get(name):
            return {"bootstrap_servers": servers, **options(there)}
    return {"bootstrap_servers": brokers["BootstrapBrokerString"]}


def source_access(there: Endpoint) -> list[dict[str, str]]:
    """Return the SourceAccessConfigurations that a mapping of the endpoint's cluster needs.

    None with IAM and without authentication: the poller finds these ways by itself, as Lambda does. For the
    others `up` has put what the cluster asks for into Secrets Manager.
    """
    brokers = there.bootstrap_brokers()
    if "BootstrapBrokerStringSaslIam" in brokers:
        return []
    for name, (kind, secret) in _SECRETS.items():
        if name in brokers and (arn := there.secret_arn(secret)):
            return [{"Type": kind, "URI": arn}]
    return []


def _iam(there: Endpoint) -> Options:
    from aiokafka.abc import AbstractTokenProvider
    from aws_msk_iam_sasl_signer import MSKAuthTokenProvider
    from botocore.credentials import CredentialProvider

    class Credentials(CredentialProvider):  # type: ignore[misc]  # botocore ships no types
        def load(self) -> Any:
            return there.session.get_credentials()

    class Tokens(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka's is untyped
        async def token(self) -> str:
            text, _ = await asyncio.to_thread(
                MSKAuthTokenProvider.generate_auth_token_from_credentials_provider,
                there.cluster_region,
                Credentials(),
            )
            return str(text)

    return {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "OAUTHBEARER",
        "sasl_oauth_token_provider": Tokens(),
        "ssl_context": _trusting(there),
    }


def _scram(there: Endpoint) -> Options:
    user = there.secret(SCRAM_SECRET)
    if user is None:
        raise UserError(
            f"The endpoint's Kafka asks for a SCRAM user, and there is no secret {SCRAM_SECRET}.",
            hint="`tidemill up --auth scram` makes it; or name a plaintext address with --bootstrap-servers.",
        )
    return {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": user["username"],
        "sasl_plain_password": user["password"],
        "ssl_context": _trusting(there),
    }


def _tls(there: Endpoint) -> Options:
    context = _trusting(there)
    if certificate := there.secret(CERTIFICATE_SECRET):
        # Python's ssl reads keys from files only; this one is ours alone, and gone at once.
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(certificate["privateKey"] + certificate["certificate"])
            file.flush()
            context.load_cert_chain(file.name)
    return {"security_protocol": "SSL", "ssl_context": context}


# GetBootstrapBrokers' fields, in the order in which they are tried.
_WAYS: Final[Mapping[str, Callable[[Endpoint], Options]]] = {
    "BootstrapBrokerStringSaslIam": _iam,
    "BootstrapBrokerStringSaslScram": _scram,
    "BootstrapBrokerStringTls": _tls,
}

_SECRETS: Final[Mapping[str, tuple[str, str]]] = {
    "BootstrapBrokerStringSaslScram": ("SASL_SCRAM_512_AUTH", SCRAM_SECRET),
    "BootstrapBrokerStringTls": ("CLIENT_CERTIFICATE_TLS_AUTH", CERTIFICATE_SECRET),
}


def _trusting(there: Endpoint) -> ssl.SSLContext:
    """Return a context with the machine's CAs, and that of `up` if there is one."""
    context = ssl.create_default_context()
    if own := there.secret(CA_SECRET):
        context.load_verify_locations(cadata=own["certificate"])
    return context
