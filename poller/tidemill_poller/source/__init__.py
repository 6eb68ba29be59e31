"""Members of consumer groups; the only importer of the Kafka client."""

from tidemill_poller.source.client import GroupClient, KafkaGroupClient
from tidemill_poller.source.source import Source, SourceDependencies

__all__ = ["GroupClient", "KafkaGroupClient", "Source", "SourceDependencies"]
