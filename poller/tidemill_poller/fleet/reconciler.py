"""One mapping and the pollers that run for it.

Owns the state transitions on the fleet's side, restarts with back-off, the number of pollers, and
LastProcessingResult. Reads its mapping from the store, writes nothing but its status there.
A cluster that cannot be entered leaves the mapping Enabled, for AWS's reason, until it heals (decision 0960).

    Creating, Enabling, Updating ── the group is joined, or cannot be for now ──> Enabled
    Updating, Disabling ── pollers drained ──> Disabled        Deleting ── pollers drained ──> gone

See docs/decisions/0961.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

from tidemill_poller.batch import BatchLimits, ByteBudget
from tidemill_poller.destinations import Destination
from tidemill_poller.errors import PollerError, SourceUnavailable, StoreError
from tidemill_poller.filters import compile_filters
from tidemill_poller.fleet.function_updates import FunctionUpdates
from tidemill_poller.kafka_auth import ClientOptions
from tidemill_poller.lane import Invoking, LaneDependencies
from tidemill_poller.mapping import UNLIMITED, USER_INITIATED, State
from tidemill_poller.mapping import Mapping as EventSourceMapping
from tidemill_poller.reporting import MappingReporter, PollerReporter, Telemetry
from tidemill_poller.retry import RetryPolicy, backoff_s
from tidemill_poller.settings import Settings
from tidemill_poller.source import GroupClient, Source, SourceDependencies
from tidemill_poller.store import MappingStore

logger = logging.getLogger(__name__)

_REPORT_INTERVAL_S: Final = 0.5
_SCALE_INTERVAL_S: Final = 10.0
_SCALE_AFTER: Final = 3  # intervals in a row in which the lag grew
_RESTART_DELAY_S_MAX: Final = 30.0
_STORE_RETRY_S: Final = 1.0

OpenDestination = Callable[[str], Destination]
OpenClient = Callable[[ClientOptions, EventSourceMapping, int], GroupClient]


class Access(Protocol):
    """How clusters are entered; both calls raise SourceUnavailable."""

    async def options(self, mapping: EventSourceMapping) -> ClientOptions:
        """Return what a client needs, with the secrets as they are now."""
        ...

    async def secret_versions(self, mapping: EventSourceMapping) -> Mapping[str, str]:
        """Return the versions of the mapping's secrets as they are now; {} when it names none."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    """What the fleet is given: the store, the settings, and the ways out."""

    store: MappingStore
    settings: Settings
    invoker: Invoking
    function_updates: FunctionUpdates
    open_destination: OpenDestination
    access: Access
    open_client: OpenClient
    telemetry: Telemetry
    budget: ByteBudget
    now_ms: Callable[[], int]
    random: Callable[[], float]


class Reconciler:
    """Keeps one mapping as the store says, until it is deleted or the fleet stops."""

    def __init__(self, uuid: str, dependencies: Dependencies) -> None:
        self._uuid = uuid
        self._given = dependencies
        self._stopping = False
        self._seen: tuple[int, bool] | None = None  # version, deleting
        self._changed = asyncio.Event()
        self._pollers: _Pollers | None = None

    def retry(self) -> int:
        """Try at once what waits to be tried again; return in how many partitions."""
        return self._pollers.retry() if self._pollers is not None else 0

    def skip(self, topic: str, partition: int) -> int | None:
        """Give up the record that a partition waits with; its offset, None when it does not wait here."""
        return self._pollers.skip(topic, partition) if self._pollers is not None else None

    def look_at(self, mapping: EventSourceMapping) -> None:
        """Note what the store holds now; a new version, or a deletion, ends what runs."""
        seen = (mapping.version, mapping.state is State.DELETING)
        if seen != self._seen:
            self._seen = seen
            self._changed.set()

    def look_again(self) -> None:
        """End what runs and read the store: the mapping is gone from it."""
        self._changed.set()

    def stop(self) -> None:
        """Ask `run` to drain and return."""
        self._stopping = True
        self._changed.set()

    async def run(self) -> None:
        """Run the mapping through its life."""
        logged = ""
        while not self._stopping:
            self._changed.clear()
            try:
                if not await self._keep():
                    return
            except StoreError as error:
                if str(error) != logged:  # once, not at every attempt
                    logged = str(error)
                    logger.error("mapping=%s store: %s", self._uuid, error)  # noqa: TRY400 - the sentence says it all
                await asyncio.sleep(_STORE_RETRY_S)

    async def _keep(self) -> bool:
        """Do what the stored mapping asks until it changes; False when it is gone."""
        mapping = self._given.store.get(self._uuid)
        if mapping is None or mapping.state is State.DELETING:
            self._given.store.delete(self._uuid)
            self._given.telemetry.forget(self._uuid)
            logger.info("mapping deleted mapping=%s", self._uuid)
            return False
        if not mapping.enabled:
            self._given.store.set_status(self._uuid, state=State.DISABLED, version=mapping.version)
            await self._changed.wait()
            return True
        self._pollers = _Pollers(mapping, self._given, self._changed)
        try:
            await self._pollers.run()
        finally:
            self._pollers = None
        return True


class _Pollers:
    """The pollers of one version of a mapping."""

    def __init__(
        self, mapping: EventSourceMapping, dependencies: Dependencies, ending: asyncio.Event
    ) -> None:
        self._mapping = mapping
        self._given = dependencies
        self._ending = ending
        self._reporter = MappingReporter(dependencies.telemetry, mapping, topic=mapping.topic)
        self._sources: dict[int, tuple[Source, Mapping[str, str]]] = {}  # and its secrets' versions
        self._joined = asyncio.Event()
        self._partitions = 1
        self._last_result = mapping.last_processing_result
        self._unwritten = ""  # why the last result could not be written

    def retry(self) -> int:
        """See Reconciler."""
        return sum(source.retry() for source, _ in self._sources.values())

    def skip(self, topic: str, partition: int) -> int | None:
        """See Reconciler."""
        if topic != self._mapping.topic:
            return None
        skipped = (source.skip(partition) for source, _ in self._sources.values())
        return next((offset for offset in skipped if offset is not None), None)

    async def run(self) -> None:
        """Run pollers until the mapping changes or the fleet stops, and drain them."""
        logger.info("mapping starts mapping=%s version=%d", self._mapping.uuid, self._mapping.version)
        async with asyncio.TaskGroup() as tasks:
            workers = [
                tasks.create_task(self._report(), name="report"),
                tasks.create_task(self._scale(tasks), name="scale"),
                tasks.create_task(self._follow_secrets(), name="secrets"),
            ]
            tasks.create_task(self._poll(0), name="poller 0")
            await self._ending.wait()
            for source, _ in self._sources.values():
                source.stop()
            for worker in workers:
                worker.cancel()
        self._write_result()
        self._reporter.ended()

    async def _poll(self, number: int) -> None:
        """Run one poller, again and again with back-off while it fails."""
        reporter = self._reporter.poller(number)
        restart = self._restart_policy()
        failures = 0
        while not self._ending.is_set():
            joined, reason = asyncio.Event(), None
            reporter.connecting()
            try:
                await self._run_source(number, reporter, joined)
                failures = 0
                continue  # it was asked to stop: the mapping ends here, or connects anew with new secrets
            except SourceUnavailable as error:
                reporter.failed(error.problem, str(error))
                reason = error.transition_reason
            except PollerError as error:
                reporter.failed(f"PROBLEM: {error}", str(error))
            except Exception as error:
                # A fault of ours: this poller starts anew, and nothing else suffers.
                logger.exception("poller crashed mapping=%s poller=%d", self._mapping.uuid, number)
                # No repr: that of a UnicodeError holds all of the text.
                reporter.failed(
                    "PROBLEM: Internal error, see the poller's log.", f"{type(error).__name__}: {error}"
                )
            self._settle_state(reason)
            failures = 1 if joined.is_set() else failures + 1
            await self._wait(backoff_s(restart, failures, random=self._given.random()))
        self._reporter.poller_ended(number)

    async def _run_source(self, number: int, reporter: PollerReporter, joined: asyncio.Event) -> None:
        options = await self._given.access.options(self._mapping)
        servers = tuple(options.bootstrap_servers.split(","))
        client = self._given.open_client(options, self._mapping, number)

        def on_joined() -> None:
            joined.set()
            self._partitions = max(len(client.partitions()), 1)
            self._settle_state()
            self._joined.set()

        source = Source(
            self._source_dependencies(servers),
            client,
            reporter=reporter,
            on_joined=on_joined,
        )
        self._sources[number] = source, options.secret_versions
        try:
            if not self._ending.is_set():
                await source.run()
        finally:
            del self._sources[number]

    async def _wait(self, delay_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self._ending.wait()

    async def _follow_secrets(self) -> None:
        """Let pollers drain and connect anew when a secret has a new version.

        One that cannot be used changes nothing: connections that stand go on while the cluster lets them.
        """
        reported = ""
        while True:
            await asyncio.sleep(self._given.settings.secret_refresh_s)
            try:
                versions = await self._given.access.secret_versions(self._mapping)
                outdated = [source for source, used in self._sources.values() if used != versions]
                if outdated:
                    await self._given.access.options(self._mapping)
            except SourceUnavailable as error:
                if str(error) != reported:
                    reported = str(error)
                    logger.warning("secrets not followed mapping=%s reason=%s", self._mapping.uuid, error)
                continue
            except Exception:
                # A fault of ours: it must not end the pollers, nor those of other mappings.
                logger.exception("secrets not followed mapping=%s", self._mapping.uuid)
                continue
            reported = ""
            for source in outdated:
                logger.info("secret rotated, connecting anew mapping=%s", self._mapping.uuid)
                source.stop()

    # How many

    async def _scale(self, tasks: asyncio.TaskGroup) -> None:
        """Start MinimumPollers, then one more whenever the lag has grown for a while, up to the partitions.

        The first joins alone: it finds a group without offsets and commits where everything starts. On demand
        there is one poller a process: its lanes run side by side already.
        """
        await self._joined.wait()
        provisioned = self._mapping.provisioned
        if provisioned is None:
            return
        count, lag, grown = 1, 0, 0
        while True:
            most = min(provisioned.maximum_pollers, self._partitions)
            while count < most and (count < provisioned.minimum_pollers or grown >= _SCALE_AFTER):
                tasks.create_task(self._poll(count), name=f"poller {count}")
                count, grown = count + 1, 0
            await asyncio.sleep(_SCALE_INTERVAL_S)
            before, lag = lag, self._reporter.lag
            grown = grown + 1 if lag > before else 0

    # What the outside sees

    def _settle_state(self, reason: str | None = None) -> None:
        """Move the mapping on to Enabled, whether it works or not; `reason` is what AWS would end it for."""
        with suppress(StoreError):  # written at the next attempt
            self._given.store.set_status(
                self._mapping.uuid,
                state=State.ENABLED,
                reason=reason or USER_INITIATED,
                version=self._mapping.version,
            )

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(_REPORT_INTERVAL_S)
            self._write_result()

    def _write_result(self) -> None:
        """Write LastProcessingResult, if it changed, and the gauges."""
        uuid = self._mapping.uuid
        result = self._reporter.result(self._last_result)
        try:
            self._given.store.set_status(uuid, last_processing_result=result, version=self._mapping.version)
            self._last_result = result
            self._unwritten = ""
        except StoreError as error:
            if str(error) != self._unwritten:  # once, not at every attempt
                self._unwritten = str(error)
                logger.warning("status not written mapping=%s reason=%s", uuid, error)
        self._reporter.set_gauges()

    # What pollers and lanes are given

    def _restart_policy(self) -> RetryPolicy:
        return RetryPolicy(
            retry_attempts=None,
            bisect=False,
            report_batch_item_failures=False,
            backoff_base_s=self._given.settings.retry_backoff_base_s,
            backoff_max_s=min(_RESTART_DELAY_S_MAX, self._given.settings.retry_backoff_max_s),
        )

    def _source_dependencies(self, bootstrap_servers: tuple[str, ...]) -> SourceDependencies:
        mapping, settings = self._mapping, self._given.settings
        return SourceDependencies(
            topic=mapping.topic,
            starting_position=mapping.starting_position,
            starting_timestamp_ms=mapping.starting_position_timestamp_ms,
            commit_interval_s=settings.commit_interval_ms / 1000,
            drain_timeout_s=settings.drain_timeout_s,
            lanes=self._lane_dependencies(bootstrap_servers),
        )

    def _lane_dependencies(self, bootstrap_servers: tuple[str, ...]) -> LaneDependencies:
        mapping, settings, given = self._mapping, self._given.settings, self._given
        age_s = mapping.maximum_record_age_s
        return LaneDependencies(
            mapping=mapping,
            event_source_arn=mapping.event_source_arn,
            bootstrap_servers=bootstrap_servers,
            destination_arn=mapping.on_failure,
            destination=given.open_destination(mapping.on_failure) if mapping.on_failure else None,
            drop_undeliverable=settings.destination_failure == "drop",
            policy=RetryPolicy(
                retry_attempts=mapping.retry_attempts,
                bisect=mapping.bisect_batch_on_function_error,
                report_batch_item_failures=mapping.report_batch_item_failures,
                backoff_base_s=settings.retry_backoff_base_s,
                backoff_max_s=settings.retry_backoff_max_s,
            ),
            limits=BatchLimits(records=mapping.batch_size, window_s=mapping.window_ms / 1000),
            overlap_window=mapping.provisioned is not None,
            age_ms_max=None if age_s == UNLIMITED else age_s * 1000,
            filter=compile_filters(mapping.filter_patterns),
            invoker=given.invoker,
            function_updates=given.function_updates,
            budget=given.budget,
            buffer_bytes=settings.partition_buffer_bytes,
            now_ms=given.now_ms,
            random=given.random,
        )
