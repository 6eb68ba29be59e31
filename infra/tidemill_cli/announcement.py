"""Owns what `up` says once everything answers: endpoints, and how to come in. Pure; never a secret."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tidemill_local.launcher import Ready
from tidemill_local.programs import client_environ
from tidemill_local.secured.aws_setup import CA_SECRET, CERTIFICATE_SECRET, SCRAM_SECRET, secret_arn
from tidemill_local.secured.client_files import Client
from tidemill_local.settings import UpSettings

_SOURCE_ACCESS = {
    "scram": ("SASL_SCRAM_512_AUTH", SCRAM_SECRET),
    "plain": ("BASIC_AUTH", SCRAM_SECRET),
    "mtls": ("CLIENT_CERTIFICATE_TLS_AUTH", CERTIFICATE_SECRET),
}


def announcement(ready: Ready, clients: Sequence[Client], settings: UpSettings) -> str:
    """The lines that a newcomer reads."""
    kafka = (
        ", ".join(f"{servers} ({name})" for name, servers in ready.listeners.items())
        if clients
        else ready.bootstrap_servers
    )
    lines = [
        "",
        f"  endpoint  {ready.endpoint_url}",
        f"  Kafka     {kafka}",
        f"  cluster   {ready.cluster_arn}",
        f"  account   {settings.account_id} in {settings.region}",
        "",
    ]
    environ = client_environ(settings, ready.endpoint_url)
    lines.append("  export " + _words(environ, "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION"))
    if "AWS_ACCESS_KEY_ID" in environ:
        lines.append("  export " + _words(environ, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"))
    lines.append("")
    if clients:
        lines += [*_access(clients, settings), ""]
    return "\n".join(lines)


def _words(environ: Mapping[str, str], *names: str) -> str:
    return " ".join(f"{name}={shlex.quote(environ[name])}" for name in names)


def _access(clients: Sequence[Client], settings: UpSettings) -> Iterator[str]:
    yield f"  Clients trust {_short(settings.ca_file)}. Configurations in {_short(settings.clients_dir)}:"
    for client in clients:
        names = ", ".join(name for name, _ in client.files())
        summary = " ".join(f"{name}={value}" for name, value in client.summary.items())
        yield f"  {client.mechanism:<6} {names}"
        yield f"         {client.servers} {summary}"
        if client.mechanism == "iam":
            yield "         sign with test/test (administrator) or the IAM user of iam.env"
        else:
            kind, name = _SOURCE_ACCESS[client.mechanism]
            yield f"         mapping: {kind}={secret_arn(name, settings.region, settings.account_id)}"
    if any(client.mechanism == "plain" for client in clients):
        arn = secret_arn(CA_SECRET, settings.region, settings.account_id)
        yield f"  Self-managed mappings trust the CA by SERVER_ROOT_CA_CERTIFICATE={arn}"


def _short(path: Path) -> str:
    """As seen from here, where that is shorter."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
