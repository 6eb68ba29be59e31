"""Sends the failure record of a sub-batch to the mapping's destination, for as long as it takes.

Owns that a send which fails is tried again with back-off while the partition is held, unless the mapping
drops what cannot be sent. One that was not answered may have arrived, so it is sent again only after the
longest back-off: each time may add a copy. The lane gives up the records and settles them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from tidemill_poller.batch import Batch
from tidemill_poller.destinations import FailureRecord
from tidemill_poller.errors import DestinationUnavailable
from tidemill_poller.lane.dependencies import LaneDependencies
from tidemill_poller.reporting import DeliveryReporter
from tidemill_poller.retry import backoff_s


class FailureSender:
    """Sends the failure records of one lane; `wait` is the lane's, and may raise to end a send."""

    def __init__(self, dependencies: LaneDependencies, wait: Callable[[float], Awaitable[None]]) -> None:
        self._dependencies = dependencies
        self._wait = wait

    async def send(self, record: FailureRecord, batch: Batch, node: DeliveryReporter) -> None:
        """Send, and hold the partition meanwhile.

        Raises DestinationUnavailable if the record is to be dropped, and what `wait` raises.
        """
        given = self._dependencies

        def hold(state: RetryCallState) -> None:
            reason = str(state.outcome.exception()) if state.outcome else ""
            node.holding(batch, delay_s=state.upcoming_sleep, reason=reason)

        sending = AsyncRetrying(
            retry=retry_if_exception_type(DestinationUnavailable),
            stop=lambda _: given.drop_undeliverable,
            wait=self._backoff_s,
            before_sleep=hold,
            sleep=self._wait,
            reraise=True,
        )
        await sending(self._send_once, record, batch, node)

    def _backoff_s(self, state: RetryCallState) -> float:
        given = self._dependencies
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, DestinationUnavailable) and error.unanswered:
            return given.policy.backoff_max_s
        return backoff_s(given.policy, state.attempt_number, random=given.random())

    async def _send_once(self, record: FailureRecord, batch: Batch, node: DeliveryReporter) -> None:
        given = self._dependencies
        assert given.destination is not None
        assert given.destination_arn is not None
        with node.sending(batch, destination=given.destination_arn, condition=record.condition) as send:
            try:
                await given.destination.send(record, trace_headers=send.headers)
            except DestinationUnavailable as error:
                send.failed(str(error))
                raise
            send.sent()
