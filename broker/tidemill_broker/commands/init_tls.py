"""`tidemill broker init-tls DIR`: a private CA, the broker's certificate, a client's, and how to use them.

Owns the command line and what it prints; `auth.issuing` makes the files. Run again, it keeps what is there.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tidemill_broker.auth.tls.contexts import CA_FILE, KEYSTORE_FILE
from tidemill_broker.auth.tls.issuing import (
    DEFAULT_HOSTS,
    Authority,
    IssuingFault,
    client_file,
    hosts_of,
)

DEFAULT_CLIENT: Final = "client"
_HELP: Final = """\
For a broker that is started with (`tidemill up --auth` does so for its own tls folder):

    tidemill broker --listener tls=9094 --tls-dir {directory}

A client that shows {client} is User:CN={name} (settings differ only in their spelling):

librdkafka (confluent-kafka, kcat)
    security.protocol=ssl
    ssl.ca.location={ca}
    ssl.certificate.location={client}
    ssl.key.location={client}

Java
    security.protocol=SSL
    ssl.truststore.type=PEM
    ssl.truststore.location={ca}
    ssl.keystore.type=PEM
    ssl.keystore.location={client}

Python: aiokafka
    security_protocol="SSL",
    ssl_context=aiokafka.helpers.create_ssl_context(
        cafile="{ca}", certfile="{client}", keyfile="{client}"),

Python: kafka-python
    security_protocol="SSL", ssl_cafile="{ca}",
    ssl_certfile="{client}", ssl_keyfile="{client}",

The scram and iam listeners need no certificate of the client: SASL_SSL for SSL, and the CA lines only.
"""


def main(argv: Sequence[str]) -> int:
    """Run it; 0 done, 1 failed with a sentence on standard error."""
    arguments = _parser().parse_args(argv)
    try:
        clients = _issue(arguments)
    except IssuingFault as fault:
        print(f"error: {fault}", file=sys.stderr)  # noqa: T201 - a command answers its terminal
        return 1
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)  # noqa: T201 - the same
        return 1
    directory = arguments.directory.resolve()
    text = _HELP.format(
        directory=directory,
        ca=directory / CA_FILE,
        client=directory / client_file(clients[0]),
        name=clients[0],
    )
    print(text, end="")  # noqa: T201 - the same
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tidemill broker init-tls",
        description="Make a private CA, the broker's certificate and a client's, and tell how to use them.",
    )
    parser.add_argument(
        "directory", metavar="DIR", type=Path, help="made if it does not exist, for you alone"
    )
    parser.add_argument(
        "--host",
        action="append",
        default=[],
        metavar="NAME",
        help=f"one more DNS name or IP address of the broker, beside {', '.join(DEFAULT_HOSTS)}",
    )
    parser.add_argument(
        "--client",
        action="append",
        default=[],
        metavar="NAME",
        help="a certificate for CN=NAME, in NAME.pem (without any: client); may be repeated",
    )
    parser.add_argument(
        "--renew",
        action="store_true",
        help="issue the broker's certificate and those of --client anew; a running broker takes them up",
    )
    return parser


def _issue(arguments: argparse.Namespace) -> list[str]:
    """Issue what is missing or asked for; the clients' names."""
    clients: list[str] = arguments.client or [DEFAULT_CLIENT]
    for name in clients:
        client_file(name)  # rejects an invalid name before anything is written
    authority = Authority.open(arguments.directory)
    _issue_broker(authority, arguments.host, renew=arguments.renew)
    for name in clients:
        file = authority.directory / client_file(name)
        if arguments.renew or not file.exists():
            _tell(authority.issue_client(name))
    return clients


def _issue_broker(authority: Authority, hosts: Sequence[str], *, renew: bool) -> None:
    file = authority.directory / KEYSTORE_FILE
    if not file.exists():
        _tell(authority.issue_broker(hosts))
        return
    known = hosts_of(file)
    if renew or not set(hosts) <= set(known):
        _tell(authority.issue_broker((*known, *hosts)))


def _tell(file: Path) -> None:
    print(f"wrote {file}")  # noqa: T201 - the same
