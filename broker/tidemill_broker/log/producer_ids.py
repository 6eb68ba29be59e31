"""Producer ids, each given out once.

They are reserved on disk a block at a time before the first of them is given out, so that none is ever given
twice, whatever kills the broker (Kafka: ProducerIdControlManager's blocks of 1000).
"""

import json
from pathlib import Path
from typing import Final

from tidemill_broker.durable_files import write_durably

BLOCK: Final = 1000


class ProducerIds:
    """Gives out producer ids; the file holds the first id that no block has reserved."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._next = self._reserved_to = self._read()

    def take(self) -> int:
        """Give an id that was never given before. Raises OSError, giving none, when the disk fails."""
        if self._next == self._reserved_to:
            self._write(self._reserved_to + BLOCK)
            self._reserved_to += BLOCK
        producer_id = self._next
        self._next += 1
        return producer_id

    def _read(self) -> int:
        try:
            return int(json.loads(self._file.read_text())["next_producer_id"])
        except FileNotFoundError:
            return 0

    def _write(self, next_producer_id: int) -> None:
        write_durably(self._file, json.dumps({"next_producer_id": next_producer_id}).encode())
