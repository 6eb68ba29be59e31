"""How a client connects to a mapping's cluster: its bootstrap servers, TLS and credentials."""

from tidemill_poller.kafka_auth.access import KafkaAccess
from tidemill_poller.kafka_auth.access_types import check_access
from tidemill_poller.kafka_auth.options import ClientOptions

__all__ = ["ClientOptions", "KafkaAccess", "check_access"]
