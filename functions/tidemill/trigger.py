"""The decorator that carries a function's configuration, and the collector that reads it from a file.

User code imports the first half, `from tidemill import KafkaTrigger, function`: it needs nothing but the
standard library, and leaves the handler a plain callable. The command line calls `collect`, which imports
the user's file in a process of its own, never in a server's.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

Handler = TypeVar("Handler", bound=Callable[..., Any])

_MARK: Final = "__tidemill_function__"
_COLLECT_S: Final = 60.0


class InvalidDeclaration(ValueError):
    """A file whose declarations cannot be read; the message is one sentence that names the fix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaTrigger:
    """An event source mapping to create with the function; None leaves a member to Lambda's default.

    Without `cluster_arn` and `bootstrap_servers` it reads the cluster that `tidemill up` runs.
    """

    topic: str
    cluster_arn: str | None = None
    bootstrap_servers: Sequence[str] = ()
    consumer_group_id: str | None = None
    starting_position: Literal["TRIM_HORIZON", "LATEST"] = "TRIM_HORIZON"
    batch_size: int | None = None
    batching_window_s: int | None = None
    maximum_retry_attempts: int | None = None
    maximum_record_age_s: int | None = None
    bisect_batch_on_function_error: bool | None = None
    report_batch_item_failures: bool = False
    on_failure: str | None = None
    filter_patterns: Sequence[Mapping[str, Any]] = ()
    minimum_pollers: int | None = None
    maximum_pollers: int | None = None

    def request(self) -> dict[str, Any]:
        """Return CreateEventSourceMapping's members but for FunctionName, and the source if none is named."""
        group = {"ConsumerGroupId": self.consumer_group_id} if self.consumer_group_id else {}
        pollers = {"MinimumPollers": self.minimum_pollers, "MaximumPollers": self.maximum_pollers}
        members: dict[str, Any] = {
            "Topics": [self.topic],
            "StartingPosition": self.starting_position,
            "BatchSize": self.batch_size,
            "MaximumBatchingWindowInSeconds": self.batching_window_s,
            "MaximumRetryAttempts": self.maximum_retry_attempts,
            "MaximumRecordAgeInSeconds": self.maximum_record_age_s,
            "BisectBatchOnFunctionError": self.bisect_batch_on_function_error,
            "FunctionResponseTypes": ["ReportBatchItemFailures"] if self.report_batch_item_failures else None,
            "DestinationConfig": {"OnFailure": {"Destination": self.on_failure}} if self.on_failure else None,
            "FilterCriteria": self._filters(),
            "ProvisionedPollerConfig": _given(pollers) or None,
        }
        if self.bootstrap_servers:
            members["SelfManagedEventSource"] = {
                "Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": list(self.bootstrap_servers)}
            }
            members["SelfManagedKafkaEventSourceConfig"] = group or None
        else:
            members["EventSourceArn"] = self.cluster_arn
            members["AmazonManagedKafkaEventSourceConfig"] = group or None
        return _given(members)

    def _filters(self) -> dict[str, Any] | None:
        if not self.filter_patterns:
            return None
        return {"Filters": [{"Pattern": json.dumps(pattern)} for pattern in self.filter_patterns]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What the decorator was given."""

    name: str
    timeout_s: int
    memory_mb: int
    environment: Mapping[str, str]
    kafka: tuple[KafkaTrigger, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """One decorated handler: the body of POST /_tidemill/functions, and its mappings' requests."""

    name: str
    path: str
    handler: str
    timeout_s: int
    memory_mb: int
    environment: dict[str, str]
    mappings: list[dict[str, Any]] = field(default_factory=list)

    def registration(self) -> dict[str, Any]:
        """Return the body of POST /_tidemill/functions."""
        return {name: value for name, value in asdict(self).items() if name != "mappings"}


def function(
    *,
    name: str | None = None,
    timeout_s: int = 3,
    memory_mb: int = 128,
    environment: Mapping[str, str] | None = None,
    kafka: KafkaTrigger | Sequence[KafkaTrigger] = (),
) -> Callable[[Handler], Handler]:
    """Declare a handler as a Lambda function, by its own name if none is given; defaults are Lambda's.

    The handler stays what it was and can be called, tested and deployed as any other.
    """

    def declare(handler: Handler) -> Handler:
        declared = Declared(
            name=name or handler.__name__,
            timeout_s=timeout_s,
            memory_mb=memory_mb,
            environment=dict(environment or {}),
            kafka=(kafka,) if isinstance(kafka, KafkaTrigger) else tuple(kafka),
        )
        setattr(handler, _MARK, declared)
        return handler

    return declare


def collect(path: Path, python: Path | None = None, packages: Sequence[Path] = ()) -> list[Collected]:
    """Return the decorated handlers of a Python file, in its order, read in a process of its own.

    `python` is the interpreter that can import the file, Python 3.10 or newer; without one it is ours.
    `packages` are folders of packages that it sees after its own. Raises InvalidDeclaration if the file
    cannot be imported or declares none.
    """
    if not path.is_file():
        raise InvalidDeclaration(f"{path} does not exist: give the Python file that holds the handlers.")
    done = _read(path, python, packages)
    if done.returncode != 0:
        reason = done.stderr.strip().rpartition("\n")[2] or f"exit status {done.returncode}"
        raise InvalidDeclaration(f"{path} cannot be imported: {reason}")
    found = [Collected(**document) for document in json.loads(done.stdout)]
    if not found:
        raise InvalidDeclaration(f"{path} declares no function: decorate a handler with @function(...).")
    return found


def _read(path: Path, python: Path | None, packages: Sequence[Path]) -> subprocess.CompletedProcess[str]:
    """Run `print_declared` in a process of its own."""
    # The folder that the command line was called in is none of the file's business, and of what is installed
    # beside this package the other interpreter sees nothing.
    program = (
        "import sys; sys.path[:] = [*filter(None, sys.path), *sys.argv[2:]]; "
        "from tidemill.trigger import print_declared; print_declared()"
    )
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "tidemill").symlink_to(Path(__file__).parent)
        reader = [python or sys.executable, "-c", program, path.resolve(), *packages, folder]
        try:
            return subprocess.run(  # noqa: S603 - our own module; the file is the user's, as asked
                reader, capture_output=True, text=True, timeout=_COLLECT_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise InvalidDeclaration(
                f"{path} was not imported within {_COLLECT_S:.0f} s: make it quicker."
            ) from None


def print_declared() -> None:
    """Print the handlers of the file in the argument as JSON: the reading process's program."""
    # What the file prints while it is imported must not be taken for the answer.
    with contextlib.redirect_stdout(sys.stderr):
        handlers = _read_module(Path(sys.argv[1]))
    json.dump([asdict(handler) for handler in handlers], sys.stdout)


def _read_module(path: Path) -> list[Collected]:
    """In the reading process: import the file as a handler process would, and list what is declared."""
    sys.path.insert(0, str(path.parent))
    module = importlib.import_module(path.stem)
    declared = {
        attribute: getattr(value, _MARK)
        for attribute, value in vars(module).items()
        # Handlers that the file only imports belong to another file.
        if hasattr(value, _MARK) and getattr(value, "__module__", None) == module.__name__
    }
    return [
        Collected(
            name=about.name,
            path=str(path),
            handler=attribute,
            timeout_s=about.timeout_s,
            memory_mb=about.memory_mb,
            environment=dict(about.environment),
            mappings=[trigger.request() for trigger in about.kafka],
        )
        for attribute, about in declared.items()
    ]


def _given(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
