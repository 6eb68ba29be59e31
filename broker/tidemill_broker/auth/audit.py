"""The audit log: one line for each denied request and each failed login, up to a rate.

The rate is limited for each principal and address, and for each kind; a line counts what was held back.
Memory is bounded. Values from clients are cut, and control characters spelled out. Nobody hands it a secret.
"""

import logging
import re
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from tidemill_broker.auth.authorizer import Operation, ResourceType
from tidemill_broker.auth.session import Session

logger = logging.getLogger("tidemill_broker.audit")  # stable: what alerts match on

WINDOW_S: Final = 10.0
# Of one principal or claimed name, from one address, in a window: enough to see what is tried.
LINES_EACH_MAX: Final = 10
# Of one kind, in a window: who invents names must not fill the disk, nor hide what others are denied.
LINES_MAX: Final = 200
VALUE_CHARACTERS_MAX: Final = 300
# What needs no quotes; everything else is quoted, and escaped to ASCII.
_PLAIN: Final = re.compile(r"[A-Za-z0-9._:/@+*\[\]-]+")


class Audit:
    """Writes warnings to the logger `tidemill_broker.audit`: `denied` or `login_failed`, then key=value."""

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s = monotonic_s
        self._window_ends_s = 0.0
        # Written so far in this window; it never holds more than LINES_MAX keys of each kind.
        self._lines: dict[tuple[str, str, str], int] = {}
        self._written: Counter[str] = Counter()
        self._held_back = 0

    def denied(  # noqa: PLR0913 - a line of the log, by name
        self,
        *,
        session: Session,
        peer: str,
        client_id: str | None,
        api: str,
        operation: Operation,
        resource_type: ResourceType,
        name: str,
        reason: str,
    ) -> None:
        """Log a denied request, for one resource."""
        who = str(session.principal)
        if self._admits("denied", who, peer):
            self._write(
                "denied",
                principal=who,
                operation=operation.name,
                resource=f"{resource_type.name}:{name}",
                api=api,
                mechanism=session.mechanism,
                peer=peer,
                client=client_id or "",
                reason=reason,
            )

    def login_failed(self, *, listener: str, peer: str, mechanism: str, claimed: str, reason: str) -> None:
        """Log a failed login; `claimed` is the name that the client gave."""
        if self._admits("login_failed", claimed, peer):
            self._write(
                "login_failed",
                claimed=claimed,
                listener=listener,
                mechanism=mechanism,
                peer=peer,
                reason=reason,
            )

    def flush(self) -> None:
        """Log how many lines were held back since the last such line."""
        if self._held_back:
            logger.warning("held_back lines=%d", self._held_back)
            self._held_back = 0

    def _admits(self, kind: str, who: str, peer: str) -> bool:
        now_s = self._monotonic_s()
        if now_s >= self._window_ends_s:
            self.flush()
            self._window_ends_s = now_s + WINDOW_S
            self._written.clear()
            self._lines.clear()
        key = (kind, who[:VALUE_CHARACTERS_MAX], peer.rpartition(":")[0])
        written = self._lines.get(key, 0)
        if written >= LINES_EACH_MAX or self._written[kind] >= LINES_MAX:
            self._held_back += 1
            return False
        self._written[kind] += 1
        self._lines[key] = written + 1
        return True

    def _write(self, kind: str, **values: str) -> None:
        line = " ".join(f"{name}={_spelled(value)}" for name, value in values.items())
        logger.warning("%s %s", kind, line)


def _spelled(value: str) -> str:
    """Spell a value so that it cannot end its line, its quotes, or what a terminal shows as the line."""
    cut = value[:VALUE_CHARACTERS_MAX]
    if _PLAIN.fullmatch(value) and cut == value:
        return value
    text = cut.encode("unicode_escape").decode().replace('"', '\\"')
    return f'"{text}{"..." if cut != value else ""}"'
