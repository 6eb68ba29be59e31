"""Owns what `--auth` means: which of the broker's listeners it opens, and with which settings.

Pure. Called by the settings, the programs' commands and the client files.
"""

from collections.abc import Mapping
from typing import Final, Literal, get_args

from tidemill_broker.listeners import ListenerName

Auth = Literal["none", "iam", "scram", "mtls", "plain"]

CHOICES: Final[tuple[Auth, ...]] = get_args(Auth)
PORT_FLAGS: Final[Mapping[ListenerName, str]] = {
    "plaintext": "--kafka-port",
    "tls": "--tls-port",
    "scram": "--scram-port",
    "iam": "--iam-port",
}
# The first of those that are open is what `bootstrap_servers` names.
PREFERRED: Final[tuple[ListenerName, ...]] = ("plaintext", "iam", "scram", "tls")
# PLAIN is one more mechanism of the scram listener, as its users are the same.
_LISTENERS: Final[Mapping[Auth, ListenerName]] = {
    "none": "plaintext",
    "iam": "iam",
    "scram": "scram",
    "mtls": "tls",
    "plain": "scram",
}
_SCRAM = "SCRAM-SHA-512,SCRAM-SHA-256"


def parse_auth(text: str) -> frozenset[Auth]:
    """The mechanisms in a comma list; PLAIN brings SCRAM. Raises ValueError with what is expected."""
    named = {part.strip().lower() for part in text.split(",") if part.strip()}
    found: set[Auth] = {each for each in CHOICES if each in named}
    unknown = sorted(named.difference(CHOICES))
    if unknown or not found:
        raise ValueError(f"takes {', '.join(CHOICES)}, separated by commas, not {text!r}.")
    if "plain" in found:
        found.add("scram")
    return frozenset(found)


def listeners(auth: frozenset[Auth]) -> tuple[ListenerName, ...]:
    """The listeners that these mechanisms need, the preferred one first."""
    needed = {_LISTENERS[each] for each in auth}
    return tuple(name for name in PREFERRED if name in needed)


def check_ports(ports: Mapping[str, int]) -> None:
    """Raise ValueError where two flags give one port; 0 is any free one, another each time."""
    flags: dict[int, str] = {}
    for flag, port in ports.items():
        other = flags.setdefault(port, flag)
        if port and other != flag:
            raise ValueError(f"{other} and {flag} are both {port}: give each a port of its own, or 0.")


def broker_settings(auth: frozenset[Auth], identity_files: str) -> Mapping[str, str]:
    """The broker's settings for these mechanisms, by Kafka's names and ours."""
    found = {}
    if "mtls" in auth:
        # With the plaintext listener open too, everybody gets in; else mTLS requires a certificate.
        found["ssl.client.auth"] = "requested" if "none" in auth else "required"
    if "scram" in auth:
        found["sasl.enabled.mechanisms"] = _SCRAM + (",PLAIN" if "plain" in auth else "")
        found["tidemill.scram.secrets"] = "on"
        # This Secrets Manager is local: a rotated password need not wait for MSK's minutes.
        found["tidemill.scram.secrets.refresh.ms"] = "1000"
    if "iam" in auth:
        found["tidemill.identity.files"] = identity_files
    return found
