"""Topics on a folder with a clock that stands where the test puts it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tests.fakes.record_batches import NOW_MS
from tidemill_broker.log.topics import Topics


@dataclass
class Clock:
    now_ms: int = NOW_MS

    def __call__(self) -> int:
        return self.now_ms


@dataclass
class Disk:
    """A folder of topics that can be closed, or left as a kill leaves it, and opened again."""

    directory: Path
    clock: Clock = field(default_factory=Clock)
    opened: list[Topics] = field(default_factory=list)

    def open(self, **settings: object) -> Topics:
        """Open it; settings are Kafka's names with `_` for `.`."""
        named = {name.replace("_", "."): value for name, value in settings.items()}
        topics = Topics(self.directory, named, clock_ms=self.clock)
        self.opened.append(topics)
        return topics
