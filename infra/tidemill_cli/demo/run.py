"""The demo's story: start, prepare, produce, wait, read back, compare, show.

The exit status is 0 only if all is proven.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from tidemill_cli import kafka
from tidemill_cli.clients import Endpoint
from tidemill_cli.demo.flights import Flight, read_flights
from tidemill_cli.demo.outside import Aws, produce, read_topic
from tidemill_cli.demo.proof import compare, named_offsets
from tidemill_cli.demo.report import Run, show
from tidemill_cli.demo.stage import RETRY_BACKOFF_S, Stage, stage
from tidemill_local.settings import AwsEngine

TOPIC = "flights"
PARTITIONS = 6
_FUNCTION = "delays"
_TABLE = "delays"
_QUEUE = "cancelled-flights"
_BATCH_SIZE = 100
_WATCH_S = 0.25
# Without any progress for this long, the demo ends with what is missing.
_STALLED_S = 60


def run_demo(flight_count: int | None, *, keep: bool, aws: AwsEngine) -> int:
    """Run it; 0 when every flight is proven to be counted or named, in order, and 1 with the differences."""
    console = Console()
    with console.status("Reading the flights of 2013 …"):
        flights = read_flights(flight_count)
    cancelled = sum(flight.cancelled for flight in flights)
    console.print(
        f"{len(flights):,} flights from New York in 2013; {cancelled:,} of them were cancelled, "
        "and the handler fails on each of those."
    )
    console.print(
        f"Retries wait {RETRY_BACKOFF_S:g} s here; a poller's default is 1 s, doubled each time "
        "(TIDEMILL_POLLER_RETRY_BACKOFF_BASE_S).\n"
    )
    with stage(keep=keep, aws=aws) as running:
        scenario = _Scenario(running, flights, console)
        proven = scenario.run()
        if keep:
            _show_endpoints(console, running)
    return 0 if proven else 1


@dataclass(slots=True)
class _Seen:
    """What the queue gave so far."""

    failures: list[Mapping[str, Any]]
    counted: int = 0

    @property
    def settled(self) -> int:
        return self.counted + sum(map(len, named_offsets(self.failures).values()))


class _Scenario:
    """One run of the main job."""

    def __init__(self, running: Stage, flights: Sequence[Flight], console: Console) -> None:
        self._stage = running
        self._flights = flights
        self._console = console
        self._aws = Aws(running)
        self._endpoint = Endpoint(running.endpoint_url)
        self._seen = _Seen(failures=[])

    def run(self) -> bool:
        self._queue_url, queue_arn = self._aws.create_queue(_QUEUE)
        self._aws.create_table(_TABLE)
        self._register_handler()
        servers = self._stage.bootstrap_servers
        asyncio.run(kafka.create_topic({"bootstrap_servers": servers}, TOPIC, PARTITIONS, 1, {}))
        mapping = self._create_mapping(queue_arn)
        started_s = time.monotonic()
        asyncio.run(self._produce_and_wait())
        took_s = time.monotonic() - started_s
        topic = asyncio.run(read_topic(servers, TOPIC, PARTITIONS))
        verdict = compare(self._flights, topic, self._aws.counts(_TABLE), self._seen.failures)
        status = self._endpoint.own("GET", f"/_tidemill/mappings/{mapping}/status")
        deliveries = self._endpoint.own("GET", f"/_tidemill/mappings/{mapping}/deliveries")
        run = Run(
            verdict=verdict,
            seconds=took_s,
            invocations=int(status["metrics"]["esm.invocations"]),
            deliveries=deliveries,
        )
        show(self._console, run)
        return not verdict.differences

    def _register_handler(self) -> None:
        sample = Path(str(resources.files("tidemill_samples").joinpath("delays.py")))
        registration = {
            "name": _FUNCTION,
            "path": str(sample),
            "handler": "handler",
            "timeout_s": 30,
            "memory_mb": 256,
            "environment": {"TABLE": _TABLE},
        }
        self._endpoint.own("POST", "/_tidemill/functions", registration)

    def _create_mapping(self, queue_arn: str) -> str:
        mapping = self._aws.functions.create_event_source_mapping(
            FunctionName=_FUNCTION,
            EventSourceArn=self._stage.cluster_arn,
            Topics=[TOPIC],
            StartingPosition="TRIM_HORIZON",
            BatchSize=_BATCH_SIZE,
            MaximumBatchingWindowInSeconds=1,
            ProvisionedPollerConfig={"MinimumPollers": 1, "MaximumPollers": PARTITIONS},
            BisectBatchOnFunctionError=True,
            MaximumRetryAttempts=2,
            FunctionResponseTypes=[],
            DestinationConfig={"OnFailure": {"Destination": queue_arn}},
        )
        return str(mapping["UUID"])

    async def _produce_and_wait(self) -> None:
        columns = (
            TextColumn("{task.description:<28}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._console) as progress:
            produced = progress.add_task("produced to Kafka", total=len(self._flights))
            settled = progress.add_task("counted, or in the queue", total=len(self._flights))
            async with asyncio.TaskGroup() as group:
                group.create_task(
                    produce(
                        self._stage.bootstrap_servers,
                        TOPIC,
                        self._flights,
                        lambda count: progress.advance(produced, count),
                    )
                )
                group.create_task(self._watch(progress, settled))

    async def _watch(self, progress: Progress, bar: TaskID) -> None:
        """Until every flight is settled, or nothing has moved for long."""
        moved_s = time.monotonic()
        before = 0
        while before < len(self._flights) and time.monotonic() - moved_s < _STALLED_S:
            await asyncio.sleep(_WATCH_S)
            await asyncio.to_thread(self._look)
            settled = self._seen.settled
            if settled != before:
                before, moved_s = settled, time.monotonic()
                progress.update(bar, completed=settled)

    def _look(self) -> None:
        self._seen.counted = sum(int(item["flights"]) for item in self._aws.counts(_TABLE).values())
        self._seen.failures += self._aws.take_failures(self._queue_url)


def _show_endpoints(console: Console, running: Stage) -> None:
    console.print(
        f"\nLeft running:\n"
        f"  export AWS_ENDPOINT_URL={running.endpoint_url}\n"
        f"  Kafka    {running.bootstrap_servers}\n"
        f"  cluster  {running.cluster_arn}\n"
        f"  data     {running.data_dir}\n"
        f"  log      {running.log_file}\n"
        f"  stop it  kill {running.pid}",
        soft_wrap=True,
        highlight=False,
    )
