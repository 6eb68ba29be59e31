"""What can go wrong in the protocol: Kafka's error codes, and the one exception that bad bytes raise.

BrokerError
├── MalformedFrame      the peer's bytes are not the request that they claim to be; closes that connection
├── CloseConnection     (tidemill_broker.apis.api) this connection must end, for that or another reason
└── Refused             (tidemill_broker.apis.api) one item of a request is answered with an error code
tidemill_broker.log.errors.LogError and tidemill_broker.settings.SettingsError are trees of their own rooms.
"""

from kio.schema.errors import ErrorCode

__all__ = ("BrokerError", "ErrorCode", "MalformedFrame")


class BrokerError(Exception):
    """Anything that the broker raises on purpose."""


class MalformedFrame(BrokerError):
    """Bytes from a peer that cannot be read as a request (Kafka: InvalidRequestException)."""
