"""Owns what `--auth` adds to an `up`: files before the start, secrets in the AWS, and client configurations.

Called by the launcher; each step blocks and is done in a thread. Secrets go into files of this user and into
Secrets Manager, never into the log.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from tidemill_broker.auth.iam.identity_file import VERSION, write_document
from tidemill_broker.auth.tls.contexts import KEYSTORE_FILE
from tidemill_broker.auth.tls.issuing import Authority, client_file
from tidemill_broker.listeners import ListenerName
from tidemill_local.errors import AccessFailed
from tidemill_local.private_files import write_private
from tidemill_local.secured.aws_setup import (
    CA_SECRET,
    CERTIFICATE_SECRET,
    SCRAM_SECRET,
    aws_client,
    ensure_secret,
    ensure_user,
)
from tidemill_local.secured.client_files import LISTENER_OF, Client, file_names
from tidemill_local.secured.kept_secrets import KeptSecrets, administrator, identity, keep_secrets, write_kept
from tidemill_local.settings import UpSettings

CLIENT_NAME: Final = "client"
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.+?-----END \1-----\n?", re.DOTALL)


class Access:
    """The certificates, users, keys and client configurations of one `up --auth`."""

    def __init__(self, settings: UpSettings, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._environ = environ
        self._kept: KeptSecrets | None = None

    def prepare(self) -> None:
        """Make what is not there yet: the CA with its certificates, the kept secrets, the identity file.

        Raises:
            AccessFailed: a file is damaged or cannot be written.

        """
        settings = self._settings
        try:
            self._kept = keep_secrets(settings.auth_file)
            make_certificates(settings.tls_dir, settings.host)
            if "iam" in settings.auth and not settings.identity_file.exists():
                _write_identities(settings.identity_file, administrator(settings.account_id))
        except OSError as error:
            raise AccessFailed(
                f"{error.filename} cannot be used ({error.strerror}): see --data-dir."
            ) from None
        except ValueError as error:
            raise AccessFailed(str(error)) from None

    def provide(self, aws_url: str) -> None:
        """Give an AWS the secrets, and one that is not the embedded one its user.

        Raises:
            AccessFailed: it rejects them.

        """
        try:
            self._provide_secrets(aws_url)
            if "iam" in self._settings.auth and self._settings.aws_endpoint_url:
                self._provide_user(aws_url)
        except (BotoCoreError, ClientError, ValueError) as error:
            raise AccessFailed(f"{aws_url} does not take what --auth needs: {error}") from None

    def write_clients(self, servers: Mapping[ListenerName, str]) -> list[Client]:
        """Write the client configurations for the broker's listeners; those of an earlier `--auth` go."""
        clients = self.clients(servers)
        for mechanism in set(LISTENER_OF) - self._settings.auth:
            for name in file_names(mechanism):
                (self._settings.clients_dir / name).unlink(missing_ok=True)
        for client in clients:
            for name, text in client.files():
                write_private(self._settings.clients_dir / name, text)
        return clients

    def clients(self, servers: Mapping[ListenerName, str]) -> list[Client]:
        """What can be connected with, one for each mechanism that is on."""
        assert self._kept is not None
        return [
            Client(
                mechanism=mechanism,
                servers=servers[listener],
                region=self._settings.region,
                ca_file=self._settings.ca_file,
                certificate_file=self._settings.tls_dir / client_file(CLIENT_NAME),
                kept=self._kept,
            )
            for mechanism, listener in LISTENER_OF.items()
            if mechanism in self._settings.auth
        ]

    def _provide_secrets(self, aws_url: str) -> None:
        settings, kept = self._settings, self._kept
        assert kept is not None
        client = aws_client("secretsmanager", aws_url, settings.region, self._environ)
        ca = settings.ca_file.read_text()
        ensure_secret(client, CA_SECRET, {"certificate": ca}, stays=_is_of(ca))
        if "scram" in settings.auth:
            there = ensure_secret(client, SCRAM_SECRET, kept.scram_secret)
            self._keep(replace(kept, scram_password=there["password"]))
        if "mtls" in settings.auth:
            pem = (settings.tls_dir / client_file(CLIENT_NAME)).read_text()
            ensure_secret(client, CERTIFICATE_SECRET, certificate_secret(pem, ca), stays=_is_of(ca))

    def _provide_user(self, aws_url: str) -> None:
        """Other emulators do not export the keys that they issue: the broker gets this one only."""
        settings, kept = self._settings, self._kept
        assert kept is not None
        client = aws_client("iam", aws_url, settings.region, self._environ)
        kept = ensure_user(client, kept, settings.region, settings.account_id)
        self._keep(kept)
        _write_identities(settings.issued_file, identity(kept, settings.region, settings.account_id))

    def _keep(self, kept: KeptSecrets) -> None:
        if kept != self._kept:
            write_kept(self._settings.auth_file, kept)
            self._kept = kept


def _is_of(ca: str) -> Callable[[Mapping[str, str]], bool]:
    """Whether a secret's chain ends at this CA: one of another data directory is of no use here."""
    return lambda found: ca.strip() in str(found.get("certificate"))


def certificate_secret(pem: str, ca: str) -> Mapping[str, str]:
    """A key and its chain in the form of CLIENT_CERTIFICATE_TLS_AUTH: the chain ends with the root."""
    blocks = {True: "", False: ""}
    for block in _PEM.finditer(pem):
        blocks["PRIVATE KEY" in block[1]] += block[0].rstrip("\n") + "\n"
    chain = blocks[False] if ca.strip() in blocks[False] else blocks[False] + ca
    return {"certificate": chain, "privateKey": blocks[True]}


def make_certificates(tls_dir: Path, *hosts: str) -> None:
    """The CA, the broker's certificate and a client's, as `tidemill broker init-tls DIR` makes them.

    The broker's is for ``hosts`` and this machine's own names.

    Those that are there must be of that CA, and good: else each program starts, and none trusts another.
    """
    authority = Authority.open(tls_dir)
    if not (tls_dir / KEYSTORE_FILE).exists():
        authority.issue_broker(hosts)
    if not (tls_dir / client_file(CLIENT_NAME)).exists():
        authority.issue_client(CLIENT_NAME)
    for file in (KEYSTORE_FILE, client_file(CLIENT_NAME)):
        authority.vouch_for(file)


def _write_identities(file: Path, entry: Mapping[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_document(file, {"version": VERSION, "identities": [entry]})
