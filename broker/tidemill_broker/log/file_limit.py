"""How many partitions the process may have, by the limit of open files: a partition keeps one open.

Half of the files are the log's; connections (server.connection) have the other half. Knows no partition.
"""

import resource
from typing import Final

from tidemill_broker.log.errors import InvalidPartitions

# The core keeps so many closed segments open for reading, of all partitions together (log.rs: KEPT_OPEN_MAX).
_READING: Final = 128


def raise_file_limit() -> None:
    """Take as many as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


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
