"""One poller of a mapping: a member of the consumer group, and the lanes of the partitions it was given.

Owns joining, polling, committing and letting go. A partition's records go to its lane and nowhere else.

    connect ──> on_assigned: a lane per partition at its committed offset, positions set
                    │ poll while lanes want records; commit what lanes settle, coalesced
                on_revoked: lanes close, settle what is in flight (bounded), commit, are revoked ── rejoin
    stop  ──> polling ends ── the same drain ── leave the group

A revoked partition never commits: its lane is off the table before the callback returns, commits run under a
lock and are bounded, so none can be retried under the next generation.

See docs/decisions/0602 and docs/decisions/0603.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from tidemill_poller.errors import SourceUnavailable
from tidemill_poller.event import EventSource, event_source
from tidemill_poller.lane import Lane, LaneDependencies
from tidemill_poller.mapping import StartingPosition
from tidemill_poller.offsets import CommitPoint, topic_of, with_topic
from tidemill_poller.reporting import PartitionReporter, PollerReporter
from tidemill_poller.source.client import GroupClient, OffsetsOutOfRange

_POLL_TIMEOUT_S: Final = 0.5
_POLL_AGAIN_S: Final = 0.1  # while some lanes are full: they may want records before others get any
_WATCH_INTERVAL_S: Final = 5.0
_COMMIT_RETRY_S: Final = 0.5
_CANCEL_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceDependencies:
    """What one poller is given, beside what its lanes are."""

    topic: str
    starting_position: StartingPosition
    starting_timestamp_ms: int | None
    commit_interval_s: float
    drain_timeout_s: float
    lanes: LaneDependencies


@dataclass(slots=True)
class _Running:
    """A lane and the task it runs in."""

    lane: Lane
    task: asyncio.Task[None]
    reporter: PartitionReporter


class Source:
    """One member of the group. It runs once; the fleet makes a new one to try again."""

    def __init__(
        self,
        dependencies: SourceDependencies,
        client: GroupClient,
        *,
        reporter: PollerReporter,
        on_joined: Callable[[], None],
    ) -> None:
        """`on_joined` is called at every assignment, once its starting positions are committed."""
        self._dependencies = dependencies
        self._client = client
        self._reporter = reporter
        self._on_joined = on_joined
        self._running: dict[int, _Running] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._failure: SourceUnavailable | None = None
        self._ending = asyncio.Event()  # asked to stop, or failed
        self._progress = asyncio.Event()  # something is to be committed
        self._room = asyncio.Event()  # a lane may want records again
        self._committing = asyncio.Lock()
        self._draining = asyncio.Lock()
        self._topic_id: str | None = None  # of the topic whose offsets are committed

    def stop(self) -> None:
        """Ask `run` to drain, leave and return."""
        self._ending.set()

    def retry(self) -> int:
        """Try at once what waits to be tried again; return in how many partitions."""
        return sum(running.lane.retry() for running in self._running.values())

    def skip(self, partition: int) -> int | None:
        """Give up the record that a partition waits with; its offset, None when it does not wait here."""
        running = self._running.get(partition)
        return running.lane.skip() if running is not None else None

    async def run(self) -> None:
        """Poll until `stop`, then drain and leave. Raises SourceUnavailable when it cannot go on."""
        try:
            async with asyncio.TaskGroup() as self._tasks:
                await self._serve(self._tasks)
        finally:
            self._ending.set()  # the client may assign once more while it leaves
            self._release_all()
            await self._client.stop()
        if self._failure is not None:
            self._reporter.ended(self._failure)
            raise self._failure

    async def _serve(self, tasks: asyncio.TaskGroup) -> None:
        try:
            await self._client.start(self)
        except SourceUnavailable as error:
            self._fail(error)
            return
        workers = [
            tasks.create_task(self._poll(), name="poll"),
            tasks.create_task(self._commit_settled(), name="commit"),
            tasks.create_task(self._watch(), name="watch"),
        ]
        await self._ending.wait()
        self._reporter.draining()
        # Heartbeats go on in the client until it leaves: no other member waits for a session to expire.
        workers[0].cancel()
        await self._drain()
        for worker in workers[1:]:
            worker.cancel()

    def _fail(self, error: SourceUnavailable) -> None:
        if self._failure is None:
            self._failure = error
            self._ending.set()

    # Polling

    async def _poll(self) -> None:
        while self._failure is None:
            wanted = [p for p, running in self._running.items() if running.lane.wants_records]
            if not wanted:
                self._room.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(_POLL_AGAIN_S):
                        await self._room.wait()
                continue
            everyone = len(wanted) == len(self._running)
            await self._poll_once(wanted, _POLL_TIMEOUT_S if everyone else _POLL_AGAIN_S)
            await asyncio.sleep(0)  # a poll that finds records does not suspend: let the lanes run

    async def _poll_once(self, wanted: Collection[int], timeout_s: float) -> None:
        """Poll and feed."""
        try:
            polled = await self._client.poll(wanted, timeout_s=timeout_s)
        except OffsetsOutOfRange as error:
            self._seek_back()
            await self._reset(error.positions)
        except SourceUnavailable as error:
            self._reporter.poll_failed()
            self._fail(error)
        else:
            for partition, records in polled.items():
                running = self._running.get(partition)
                if running is not None:  # else: assigned a moment ago, and read again from its position
                    running.lane.feed(records)
            if polled:
                self._reporter.polled(polled)

    def _seek_back(self) -> None:
        """Read on where the lanes stand: what the failed poll had from other partitions is lost otherwise."""
        for partition, running in self._running.items():
            self._client.seek(partition, running.lane.offsets.polled_to)

    async def _reset(self, positions: Mapping[int, int]) -> None:
        """Go on at the log's start: retention took the records before it, or the topic was made anew."""
        try:
            if not await self._look_at_topic():
                return
            bounds = await self._client.bounds(positions)
        except SourceUnavailable as error:
            self._fail(error)
            return
        for partition, position in positions.items():
            start, end = bounds[partition]
            self._reporter.out_of_range(partition, offset=position, start=start, end=end)
            running = self._running.get(partition)
            if running is None:
                continue
            if start < running.lane.offsets.polled_to:
                await self._begin_anew(partition, start)
            else:
                self._client.seek(partition, start)

    async def _begin_anew(self, partition: int, start: int) -> None:
        """Replace the lane by one at the new log's start, unless a rebalance comes between."""
        assigned = self._running
        await self._release([assigned.pop(partition)], [partition])
        async with self._committing:
            if self._running is not assigned:
                return
            try:
                # At once: when the new log has grown past the old offset, nobody can tell them apart.
                await self._client.commit(self._of_this_topic({partition: CommitPoint(start)}))
            except SourceUnavailable as error:
                self._fail(error)
                return
        if self._running is assigned:
            self._open(partition, CommitPoint(start))
            self._client.seek(partition, start)

    # Rebalances, called by the client from within them

    async def on_revoked(self) -> None:
        """See Listener."""
        await self._drain()

    async def on_assigned(self, partitions: Collection[int]) -> None:
        """See Listener."""
        try:
            await self._open_lanes(partitions)
        except SourceUnavailable as error:
            self._fail(error)

    async def _open_lanes(self, partitions: Collection[int]) -> None:
        if not self._client.partitions():
            # aiokafka joins the group all the same, and would wait with neither partitions nor a word.
            raise SourceUnavailable(f"the cluster has no topic {self._dependencies.topic} (any more)")
        committed = await self._client.committed()
        self._topic_id = await self._client.topic_id() or self._topic_id
        points = {p: point for p, point in committed.items() if not self._of_another_topic(point)}
        if len(points) < len(committed):
            self._reporter.topic_recreated(self._topic_id)
        missing = [p for p in partitions if p not in points]
        if missing:
            anew = [p for p in missing if p in committed]
            starts = await self._starting_points(missing, first_time=not points)
            if points and anew:
                starts |= await self._starting_points(anew, first_time=True)
            # Committed at once: a poller that dies before its first record must not start later.
            await self._client.commit(self._of_this_topic(starts))
            points |= starts
        noted = [p for p in partitions if points[p].metadata]
        bounds = await self._client.bounds(noted) if noted else {}
        if self._ending.is_set():
            return  # it leaves again at once
        for partition in partitions:
            self._client.seek(partition, points[partition].offset)
            end = bounds[partition][1] if partition in bounds else None
            self._open(partition, points[partition], end=end)
        self._reporter.assigned(partitions)
        self._on_joined()

    def _of_another_topic(self, point: CommitPoint) -> bool:
        """Whether an offset was committed for a topic of this name that was deleted since."""
        return self._topic_id is not None and topic_of(point.metadata) not in {None, self._topic_id}

    def _of_this_topic(self, points: Mapping[int, CommitPoint]) -> dict[int, CommitPoint]:
        return {
            p: CommitPoint(at.offset, with_topic(at.metadata, self._topic_id)) for p, at in points.items()
        }

    async def _look_at_topic(self) -> bool:
        """Whether the topic is still the one that was joined; else end, and begin anew as a new member.

        What is committed until then carries the id of the old topic. Raises SourceUnavailable.
        """
        found = await self._client.topic_id()
        if None in {found, self._topic_id} or found == self._topic_id:
            return True
        topic = self._dependencies.topic
        self._fail(SourceUnavailable(f"topic {topic} was deleted and made anew: its offsets begin again"))
        return False

    async def _starting_points(
        self, partitions: Collection[int], *, first_time: bool
    ) -> dict[int, CommitPoint]:
        """Where partitions without a committed offset begin.

        StartingPosition holds for a group that never committed; a partition that is missing among others is
        one that was added later, and is read from its start so that nothing in it is skipped.
        """
        setup = self._dependencies
        bounds = await self._client.bounds(partitions)
        if not first_time or setup.starting_position is StartingPosition.TRIM_HORIZON:
            return {p: CommitPoint(bounds[p][0]) for p in partitions}
        if setup.starting_position is StartingPosition.LATEST:
            return {p: CommitPoint(bounds[p][1]) for p in partitions}
        found = await self._client.at_time(partitions, setup.starting_timestamp_ms or 0)
        # No record is that young: begin with the next one, as Kafka's own tools do.
        return {p: CommitPoint(bounds[p][1] if (at := found[p]) is None else at) for p in partitions}

    def _open(self, partition: int, point: CommitPoint, *, end: int | None = None) -> None:
        assert self._tasks is not None, "partitions are assigned while the source runs"
        reporter = self._reporter.partition_opened(partition, committed=point.offset)
        lane = Lane(
            self._dependencies.lanes,
            self._event_source(partition),
            committed=point,
            end=end,
            reporter=reporter,
            on_progress=self._on_progress,
        )
        task = self._tasks.create_task(lane.run(), name=f"lane {self._dependencies.topic}-{partition}")
        self._running[partition] = _Running(lane, task, reporter)
        self._room.set()

    def _event_source(self, partition: int) -> EventSource:
        lanes = self._dependencies.lanes
        return event_source(
            self._dependencies.topic,
            partition,
            bootstrap_servers=lanes.bootstrap_servers,
            event_source_arn=lanes.event_source_arn,
        )

    async def _drain(self) -> None:
        """Let every lane settle what is in flight, commit it, and give all partitions up; bounded."""
        async with self._draining:
            released, self._running = self._running, {}
            await self._release(list(released.values()), partitions=list(released))

    async def _release(self, released: list[_Running], partitions: list[int]) -> None:
        for running in released:
            running.lane.close()
        tasks = [running.task for running in released]
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=self._dependencies.drain_timeout_s)
                await self._commit(dict(zip(partitions, released, strict=True)))
        finally:
            for running in released:
                running.lane.revoke()
                running.task.cancel()
                self._reporter.partition_closed(running.reporter)
        if tasks:
            await asyncio.wait(tasks, timeout=_CANCEL_TIMEOUT_S)

    def _release_all(self) -> None:
        """After a crash: the tasks are gone already, nothing more is committed."""
        for running in self._running.values():
            running.lane.revoke()
            self._reporter.partition_closed(running.reporter)
        self._running = {}

    # Committing

    def _on_progress(self) -> None:
        self._progress.set()
        self._room.set()

    async def _commit_settled(self) -> None:
        """Commit what lanes settle: at once after a quiet time, else once an interval."""
        while True:
            await self._progress.wait()
            self._progress.clear()
            done = await self._commit(self._running)
            await asyncio.sleep(self._dependencies.commit_interval_s if done else _COMMIT_RETRY_S)
            if not done:
                self._progress.set()

    async def _commit(self, running: Mapping[int, _Running]) -> bool:
        """Commit what is due; True unless it failed. Bounded by the client's timeout."""
        async with self._committing:
            due = {p: point for p, r in running.items() if (point := r.lane.offsets.due()) is not None}
            if not due:
                return True
            committing = {p: running[p] for p in due}
            try:
                await self._client.commit(self._of_this_topic(due))
            except SourceUnavailable as error:
                self._reporter.commit_failed(error)
                if error.transition_reason:
                    self._fail(error)  # or functions would go on with what is delivered again for ever
                return False
        for partition, point in due.items():
            offsets, reporter = committing[partition].lane.offsets, committing[partition].reporter
            self._reporter.committed(reporter, before=offsets.committed, offset=point.offset)
            offsets.confirm(point)
        return True

    # Watching

    async def _watch(self) -> None:
        """Follow the lag and the connection; aiokafka recovers by itself and says so only in its log."""
        while True:
            partitions = list(self._running)
            try:
                if partitions and not await self._look_at_topic():
                    return
                bounds = await self._client.bounds(partitions) if partitions else {}
            except SourceUnavailable as error:
                self._reporter.poll_failed()
                await self._diagnose(error)
            else:
                running = {p: self._running[p].reporter for p in bounds if p in self._running}
                self._reporter.connection_works(running, bounds)
            await asyncio.sleep(_WATCH_INTERVAL_S)

    async def _diagnose(self, error: SourceUnavailable) -> None:
        """Report why the cluster cannot be used; end when only another way in could change that.

        Then the fleet connects anew, with the secrets of that time: aiokafka would try the old ones for ever.
        """
        fault = error if error.transition_reason else await self._client.diagnosis() or error
        self._reporter.connection_failing(fault)
        if fault.transition_reason:
            self._fail(fault)
