"""What the log rejects; the core raises these too, and imports this module when it must."""

from tidemill_broker.errors import BrokerError


class LogError(BrokerError):
    """The root: everything that the log rejects, in one sentence that names the fix."""


class InvalidBatch(LogError):
    """A record batch that may not be appended; `code` is Kafka's error code for it."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class OffsetOutOfRange(LogError):
    """An offset below the log start or above the end of the log."""


class TopicExists(LogError):
    """A topic of that name is there already."""


class DamagedTopic(LogError):
    """The file of a topic cannot be read; the text names it."""


class TopicBusy(LogError):
    """Another request is making, widening or deleting the topic at this moment: try again."""


class UnknownTopic(LogError):
    """There is no topic of that name."""


class InvalidTopicName(LogError):
    """The name breaks Kafka's rules: 1-249 characters of a-z A-Z 0-9 . _ - and neither `.` nor `..`."""


class InvalidPartitions(LogError):
    """A partition count below one, above the limit, or not above the present count."""


class InvalidConfig(LogError):
    """A topic config is unknown or its value is out of range; `name` is the config's."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name
