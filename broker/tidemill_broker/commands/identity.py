"""`tidemill broker identity add|list|remove`: who may log in by IAM, in a file that a running broker watches.

Owns the command line and the making of keys; the file's safety and meaning are `auth.identity_file`'s and
`auth.identities`'. A secret is printed once, by `add` when it made it, and never taken from an argument.
"""

import argparse
import getpass
import json
import secrets
import sys
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tidemill_broker.auth.iam.identities import Identities, read_identity
from tidemill_broker.auth.iam.identity_file import (
    FILE_NAME,
    VERSION,
    IdentityFileError,
    locked,
    read_document,
    write_document,
)
from tidemill_broker.auth.iam.policies import Policy
from tidemill_broker.auth.iam.policies.actions import ACTIONS, CONNECT
from tidemill_broker.errors import BrokerError
from tidemill_broker.settings import Settings

ADMINISTRATOR: Final = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "kafka-cluster:*", "Resource": "*"}],
}
# Not AWS's AKIA, so that scanners for leaked keys of AWS do not report it.
_PREFIX: Final = "TKIA"
_KEY_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_KEY_CHARACTERS: Final = 16
# 40 characters with `+` and `/`, as AWS's.
_SECRET_BYTES: Final = 30


class CommandError(BrokerError):
    """The command cannot do it; the text names the fix."""


def main(argv: Sequence[str]) -> int:
    """Run one command; 0 done, 1 failed with a sentence on standard error."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except (CommandError, IdentityFileError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - a command answers its terminal
        return 1
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)  # noqa: T201 - the same
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tidemill broker identity", description="Who may log in by IAM.")
    commands = parser.add_subparsers(required=True, metavar="add|list|remove")
    add = commands.add_parser("add", help="add an access key; the broker takes it up within a second")
    add.set_defaults(run=_add)
    add.add_argument(
        "--principal", required=True, metavar="ARN", help="e.g. arn:aws:iam::123456789012:user/alice"
    )
    add.add_argument(
        "--policy",
        action="append",
        type=Path,
        default=[],
        metavar="FILE",
        help="a policy document in JSON; may be repeated",
    )
    add.add_argument("--admin", action="store_true", help="allow kafka-cluster:* on everything")
    add.add_argument("--expires", metavar="TIME", help="when the key ends, e.g. 2026-01-31T12:00:00Z")
    add.add_argument(
        "--access-key-id", metavar="ID", help="a key that exists elsewhere, with --secret-from-stdin"
    )
    add.add_argument(
        "--secret-from-stdin",
        action="store_true",
        help="read the secret from the first line, and a session token from the second if there is one",
    )
    listing = commands.add_parser("list", help="list access keys, without their secrets")
    listing.set_defaults(run=_list)
    remove = commands.add_parser("remove", help="remove an access key; its connections lose their rights")
    remove.set_defaults(run=_remove)
    remove.add_argument("access_key_id", metavar="ID")
    for command in (add, listing, remove):
        _add_places(command)
    return parser


def _add_places(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir", type=Path, default=Settings().data_dir, help="the broker's (%(default)s)"
    )
    parser.add_argument("--file", type=Path, help=f"another file than DATA_DIR/{FILE_NAME}")


def _file(arguments: argparse.Namespace) -> Path:
    file: Path = arguments.file or arguments.data_dir / FILE_NAME
    return file


def _add(arguments: argparse.Namespace) -> None:
    if bool(arguments.access_key_id) != arguments.secret_from_stdin:
        raise CommandError("--access-key-id and --secret-from-stdin go together; without both, a key is made")
    if not arguments.policy and not arguments.admin:
        raise CommandError("without a policy the key may nothing: add --policy FILE or --admin")
    entry = _entry(arguments)
    identity = read_identity(entry, "the new identity")
    file = _file(arguments)
    with locked(file):
        document = _read(file)
        if any(each["accessKeyId"] == entry["accessKeyId"] for each in document["identities"]):
            raise CommandError(f"{file} has the access key {entry['accessKeyId']} already; remove it first")
        document["identities"].append(entry)
        write_document(file, document)
    _warn_of_no_rights(identity.policies, arguments.policy)
    if arguments.access_key_id:
        _tell(f"added {entry['accessKeyId']} to {file}")
        return
    _tell(f"added to {file}; the secret is shown this once:")
    _tell(f"export AWS_ACCESS_KEY_ID={entry['accessKeyId']}")
    _tell(f"export AWS_SECRET_ACCESS_KEY={entry['secretAccessKey']}")


def _warn_of_no_rights(policies: Sequence[Policy], files: Sequence[Path]) -> None:
    """Say it at once, not by a denied login. It is no error: a cluster policy may allow the principal."""
    actions = (CONNECT, *ACTIONS.values())
    allowing = (each for policy in policies for each in policy.statements if each.effect == "Allow")
    if any(statement.names(action) for statement in allowing for action in actions):
        return
    print(  # noqa: T201 - as above
        f"warning: no statement of {', '.join(map(str, files))} allows any kafka-cluster action;"
        ' write an Allow with "Action": "kafka-cluster:*", or kafka-cluster:Connect and what else it may do',
        file=sys.stderr,
    )


def _entry(arguments: argparse.Namespace) -> dict[str, Any]:
    policies = [_policy(file) for file in arguments.policy]
    entry = {
        "accessKeyId": arguments.access_key_id or _new_access_key_id(),
        "secretAccessKey": b64encode(secrets.token_bytes(_SECRET_BYTES)).decode(),
        "principalArn": arguments.principal,
        "policies": [ADMINISTRATOR, *policies] if arguments.admin else policies,
    }
    if arguments.secret_from_stdin:
        entry |= _given_secret()
    if arguments.expires:
        entry["expiration"] = arguments.expires
    return entry


def _given_secret() -> dict[str, str]:
    if sys.stdin.isatty():
        return {"secretAccessKey": getpass.getpass("Secret access key: ")}
    secret, token = sys.stdin.readline().strip(), sys.stdin.readline().strip()
    return {"secretAccessKey": secret, **({"sessionToken": token} if token else {})}


def _new_access_key_id() -> str:
    return _PREFIX + "".join(secrets.choice(_KEY_ALPHABET) for _ in range(_KEY_CHARACTERS))


def _policy(file: Path) -> Any:
    try:
        return json.loads(file.read_text())
    except ValueError as error:
        raise CommandError(f"{file} is not JSON: {error}") from error


def _read(file: Path) -> dict[str, Any]:
    """Read the whole document, checked: a file that the broker would reject is not written."""
    Identities([file])
    return read_document(file) or {"version": VERSION, "identities": []}


def _list(arguments: argparse.Namespace) -> None:
    entries = _read(_file(arguments))["identities"]
    if not entries:
        _tell(f"{_file(arguments)} holds no access keys; add one with: tidemill broker identity add")
    for entry in entries:
        count = len(entry["policies"])
        marks = [f"{count} {'policy' if count == 1 else 'policies'}"]
        marks += ["session token"] if entry.get("sessionToken") else []
        marks += [f"until {entry['expiration']}"] if entry.get("expiration") else []
        _tell(f"{entry['accessKeyId']:<20}  {entry['principalArn']}  {', '.join(marks)}")


def _remove(arguments: argparse.Namespace) -> None:
    file = _file(arguments)
    with locked(file):
        document = _read(file)
        rest = [each for each in document["identities"] if each["accessKeyId"] != arguments.access_key_id]
        if len(rest) == len(document["identities"]):
            raise CommandError(f"{file} has no access key {arguments.access_key_id}; see: identity list")
        write_document(file, document | {"identities": rest})
    _tell(f"removed {arguments.access_key_id} from {file}")


def _tell(line: str) -> None:
    print(line)  # noqa: T201 - what the command is for
