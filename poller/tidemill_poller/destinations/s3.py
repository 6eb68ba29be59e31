"""An S3 bucket as failure destination: one object per discarded batch, with the invocation event in it."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from tidemill_poller.arn import Arn
from tidemill_poller.aws import AwsClients
from tidemill_poller.destinations.aws_call import AwsCalls
from tidemill_poller.destinations.aws_kind import AwsKind
from tidemill_poller.destinations.record import FailureRecord, failure_json
from tidemill_poller.destinations.trace_context import context_out


class S3Destination:
    """Puts one object per record into one bucket."""

    def __init__(self, clients: AwsClients, *, bucket: str) -> None:
        # A bucket's ARN has no region: the session's own is taken, and S3 redirects.
        self._calls = AwsCalls(clients, "s3", region=None, target=f"The S3 bucket {bucket}")
        self._bucket = bucket

    async def send(self, record: FailureRecord, *, trace_headers: Mapping[str, str]) -> None:
        """See Destination. The key is drawn once: botocore's own retry writes the same object again."""
        body, key = failure_json(record, with_payload=True), object_key(record, uuid.uuid4())
        metadata = context_out(trace_headers)

        def call(client: Any) -> None:
            client.put_object(
                Bucket=self._bucket, Key=key, Body=body, ContentType="application/json", Metadata=metadata
            )

        await self._calls.run(call)


def object_key(record: FailureRecord, random: uuid.UUID) -> str:
    """`aws/lambda/<mapping>/<topic-partition>/YYYY/MM/DD/YYYY-MM-DDTHH.MM.SS-<random>`.

    AWS documents the pattern for streams, where the partition's place is the shard's; its Kafka page shows
    none.
    """
    at = datetime.fromtimestamp(record.timestamp_ms // 1000, UTC)
    place = f"aws/lambda/{record.mapping_uuid}/{record.partition_key}"
    return f"{place}/{at:%Y/%m/%d}/{at:%Y-%m-%dT%H.%M.%S}-{random}"


def _open(clients: AwsClients, arn: Arn) -> S3Destination:
    return S3Destination(clients, bucket=arn.resource)


KIND: Final = AwsKind(
    called="S3 bucket", service="s3", resource=re.compile(r"[A-Za-z0-9.-]+"), regional=False, opens=_open
)
