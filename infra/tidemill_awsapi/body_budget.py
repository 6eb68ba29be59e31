"""Owns the sum of the bodies that one HTTP server keeps in memory: each connection has an account of it.

Knows no request. The bound of each body alone leaves their sum open: thousands of
connections may send one each.
"""

from typing import Final

# Bodies up to this are not counted: all connections together then have 64 MiB of them.
FREE_BYTES: Final = 16 * 1024
# Said where no application has read the request.
OVER_BUDGET: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nx-amzn-ErrorType: ServiceUnavailableException\r\n"
    b"Content-Type: application/json\r\nContent-Length: 55\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
    b'{"message":"Too many large requests at once; retry it"}'
)
RETRY_AFTER_S: Final = 1


class BodyBudget:
    """How many bytes of bodies may be there at once, and how many are."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.held_bytes = 0


class BodyAccount:
    """What one connection holds of the budget."""

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self._held_bytes = 0

    def hold(self, size: int) -> bool:
        """Hold this many bytes from now on, in all; False, and all is as before, if that is too much."""
        counted = size if size > FREE_BYTES else 0
        grown = counted - self._held_bytes
        if grown > 0 and self._budget.held_bytes + grown > self._budget.bytes_max:
            return False
        self._budget.held_bytes += grown
        self._held_bytes = counted
        return True

    def release(self) -> None:
        """Hold nothing any more."""
        self.hold(0)
