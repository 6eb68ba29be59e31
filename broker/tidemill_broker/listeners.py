"""The listeners, as Amazon MSK has them: their names, their ports, and what clients are told to connect to.

Pure parsing of `--listener` and `advertised.listeners`; `settings` uses it, `server` opens them.
"""

from collections.abc import Mapping
from typing import Final, Literal, get_args
from urllib.parse import urlsplit

ListenerName = Literal["plaintext", "tls", "scram", "iam"]

NAMES: Final[tuple[ListenerName, ...]] = get_args(ListenerName)
# MSK: https://docs.aws.amazon.com/msk/latest/developerguide/port-info.html
PORTS: Final[Mapping[ListenerName, int]] = {"plaintext": 9092, "tls": 9094, "scram": 9096, "iam": 9098}
PORT_MAX: Final = 65535


def parse_listener(text: str) -> tuple[ListenerName, int | None]:
    """Read NAME or NAME=PORT. Raises ValueError with what is expected."""
    spelled, equals, port = text.partition("=")
    name = _name(spelled.strip())
    if name is None:
        raise ValueError(f"no listener {spelled.strip()!r}: give one of {', '.join(NAMES)}")
    return name, _port(port.strip()) if equals else None


def parse_advertised(text: str) -> Mapping[ListenerName, tuple[str, int]]:
    """Read Kafka's advertised.listeners with our names for schemes. Raises ValueError."""
    advertised: dict[ListenerName, tuple[str, int]] = {}
    for each in filter(None, (part.strip() for part in text.split(","))):
        name, address = _advertised(each)
        if name in advertised:
            raise ValueError(f"{name.upper()} is advertised twice: give one address")
        advertised[name] = address
    return advertised


def _advertised(text: str) -> tuple[ListenerName, tuple[str, int]]:
    try:
        parts = urlsplit(text)
        name, host, port = _name(parts.scheme), parts.hostname, parts.port
    except ValueError:
        name = host = port = None
    if name is None or host is None or port is None:
        schemes = ", ".join(each.upper() for each in NAMES)
        raise ValueError(f"must be SCHEME://host:port, separated by commas; schemes are {schemes}")
    return name, (host, port)


def _name(text: str) -> ListenerName | None:
    return next((each for each in NAMES if each == text.lower()), None)


def _port(text: str) -> int:
    # A socket would take a larger one modulo 65,536.
    if not (text.isascii() and text.isdigit() and int(text) <= PORT_MAX):
        raise ValueError(f"{text!r} is no port: give 0 to {PORT_MAX}; 0 is any free one")
    return int(text)
