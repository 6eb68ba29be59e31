"""What can go wrong in the protocol: Kafka's error codes, and the exception for malformed bytes."""

from kio.schema.errors import ErrorCode

from tidemill_broker.errors import BrokerError

__all__ = ("ErrorCode", "MalformedFrame")


class MalformedFrame(BrokerError):
    """Bytes from a client that cannot be read as a request (Kafka: InvalidRequestException)."""
