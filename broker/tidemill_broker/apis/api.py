"""What a row of the table of APIs is, and what its handler may answer; every family imports it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tidemill_broker.errors import BrokerError
from tidemill_broker.protocol.errors import ErrorCode

# One complete response frame, ready to be written as it is, ALWAYS with its 4-byte length in front: bytes, or
# chunks for one vectored write. None: no answer (Produce with acks=0).
Reply = bytes | memoryview | Sequence[bytes] | None

# Decoded: (broker, Request) -> response entity, or an awaitable of it, or a generator that yields wherever
#          others may have their turn and returns one of these (`turns`).
# Raw:     (broker, connection, frame without its length: memoryview) -> Reply, or an awaitable of it; raises
#          MalformedFrame for versions that it does not speak too. It gets no Request: to make one would cost
#          a small Produce 3 % of the broker's time.
Handler = Callable[..., Any]


MESSAGE_CHARACTERS_MAX: Final = 1000


class CloseConnection(BrokerError):
    """This connection must end, and only this one; the text is the reason for the server's one log line."""


class Rejected(BrokerError):
    """One item of a request is not done: Kafka's code and a sentence for the client (Kafka: ApiError)."""

    def __init__(self, code: ErrorCode, message: str | None = None) -> None:
        super().__init__(message or code.name)
        self.code = code
        # Names from the request may be as long as they like; old encodings of the reply end at 32,767 bytes.
        self.message = message and message[:MESSAGE_CHARACTERS_MAX]


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """One row: the versions that the broker answers, and their handler.

    A raw handler (Produce, Fetch) gets the frame as it lies in the connection's buffer and answers a whole
    frame. `right` tells, from (connection, header, frame) and before anything is decoded, whether the client
    has the right that the whole request needs; the handler still answers a denial. `elements_max` is less
    than what other APIs may have. `advertised_min_version` widens what ApiVersions tells, without widening
    what is answered.
    """

    key: int
    name: str
    min_version: int
    max_version: int
    handle: Handler
    raw: bool = False
    right: Callable[..., bool] | None = None
    elements_max: int | None = None
    advertised_min_version: int | None = None

    def speaks(self, version: int) -> bool:
        """Whether a request of this version is answered."""
        return self.min_version <= version <= self.max_version
