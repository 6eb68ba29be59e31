"""How many partitions a topic may have, and the broker, by the limit of open files: each keeps one open.

Half of the files are the log's; connections (server.connection) have the other half. Knows no partition.
"""

import resource
from typing import Final

from tidemill_broker.log.errors import InvalidPartitions

# Kafka has no limit; this one keeps a typing error from making a million folders.
PARTITIONS_MAX: Final = 10_000
# The core keeps so many closed segments open for reading, of all partitions (log/reading.rs: KEPT_OPEN_MAX).
_READING: Final = 128


def raise_file_limit() -> None:
    """Take as many as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def check_count(count: int) -> None:
    """Raise InvalidPartitions for a number of partitions that no topic can have."""
    if not 1 <= count <= PARTITIONS_MAX:
        raise InvalidPartitions(f"Number of partitions must be between 1 and {PARTITIONS_MAX}, not {count}.")


def check_room(present: int, more: int) -> None:
    """Raise InvalidPartitions unless there are files for so many more partitions."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return
    most = max(files // 2 - _READING, files // 4)
    if present + more > most:
        raise InvalidPartitions(
            f"This broker has room for {most} partitions, {present} of which are taken: delete topics, or"
            f" raise its limit of open files (ulimit -n), which is {files}."
        )
