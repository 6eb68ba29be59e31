"""The file of each topic: what it is called, its id, its partitions and configs; written whole and durably.

A file that cannot be read costs its own topic only. Knows nothing of partitions' folders.

See docs/decisions/0101 and docs/decisions/0105.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from tidemill_broker.durable_files import remove_drafts, sync_directory, write_durably
from tidemill_broker.log import configs as topic_configs
from tidemill_broker.log.errors import DamagedTopic, InvalidConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicContent:
    """What the file of a topic holds."""

    name: str
    topic_id: UUID
    partitions: int
    replication_factor: int = 1
    internal: bool = False
    configs: Mapping[str, str] = field(default_factory=dict)


class TopicFiles:
    """The files of all topics, in one folder; ``damaged``: names whose files could not be read."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.damaged: dict[str, Path] = {}
        directory.mkdir(parents=True, exist_ok=True)
        remove_drafts(directory)

    def save(self, content: TopicContent) -> None:
        """Write a topic's file, durably."""
        document = {
            "name": content.name,
            "topic_id": str(content.topic_id),
            "partitions": content.partitions,
            "replication_factor": content.replication_factor,
            "internal": content.internal,
            "configs": dict(content.configs),
        }
        write_durably(self._file(content.name), json.dumps(document, indent=1).encode())

    def remove(self, name: str) -> None:
        """Remove a topic's file, durably: from then on there is no such topic."""
        self._file(name).unlink()
        self.sync()

    def sync(self) -> None:
        """Return once what was removed would stay so after a power failure."""
        sync_directory(self._directory)

    def take_back(self, name: str) -> None:
        """Remove a topic's file; `sync` makes it durable."""
        self._file(name).unlink()

    def read_all(self) -> Iterator[TopicContent]:
        """Yield every topic's content, by name. A damaged file is logged, and its name stays taken."""
        for file in sorted(self._directory.glob("*.json")):
            try:
                yield _read(file)
            except DamagedTopic as fault:
                if file.stem.startswith("__"):
                    raise  # without its own topics the broker would forget all groups
                self.damaged[file.stem] = file
                logger.error(  # noqa: TRY400 - damage of a file is no fault of the code
                    "topic not loaded, the others are served topic=%s: %s", file.stem, fault
                )

    def _file(self, name: str) -> Path:
        return self._directory / f"{name}.json"


def _read(file: Path) -> TopicContent:
    try:
        document = json.loads(file.read_bytes())
        configs = {str(name): str(value) for name, value in document["configs"].items()}
        topic_configs.validate(configs)
        return TopicContent(
            name=_same(file.stem, document["name"]),
            topic_id=UUID(document["topic_id"]),
            partitions=_positive(document["partitions"]),
            replication_factor=int(document["replication_factor"]),
            internal=bool(document["internal"]),
            configs=configs,
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, InvalidConfig, OSError) as fault:
        raise DamagedTopic(
            f"{file} cannot be read ({type(fault).__name__}: {fault}); restore it from a backup, or stop"
            f" the broker, remove it and the folders {file.stem}-N with the records, and create the"
            " topic again"
        ) from fault


def _same(expected: str, name: object) -> str:
    if name != expected:
        raise ValueError(f"it holds the topic {str(name)[:300]!r}")
    return expected


def _positive(count: object) -> int:
    if not isinstance(count, int) or count < 1:
        raise ValueError(f"{count!r} is no number of partitions")
    return count
