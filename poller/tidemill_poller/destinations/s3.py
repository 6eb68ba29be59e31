"""An S3 bucket as failure destination: one object per discarded batch, with the invocation event in it."""

from __future__ import annotations

import hashlib
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

# Of the UUIDs that end object keys: one for each body, and no two bodies share one.
_KEYS: Final = uuid.UUID("6f2a0d0e-3c59-4c0e-9a4e-0b6f2d6c7f10")


class S3Destination:
    """Puts one object per record into one bucket."""

    def __init__(self, clients: AwsClients, *, bucket: str) -> None:
        # A bucket's ARN has no region: the session's own is taken, and S3 redirects.
        self._calls = AwsCalls(clients, "s3", region=None, target=f"The S3 bucket {bucket}")
        self._bucket = bucket

    async def send(self, record: FailureRecord, *, trace_headers: Mapping[str, str]) -> None:
        """See Destination. The key is the record's: sent again, it replaces its own object."""
        body = failure_json(record, with_payload=True)
        key = object_key(record, uuid.uuid5(_KEYS, hashlib.sha256(body).hexdigest()))
        metadata = context_out(trace_headers)

        def call(client: Any) -> None:
            client.put_object(
                Bucket=self._bucket, Key=key, Body=body, ContentType="application/json", Metadata=metadata
            )

        await self._calls.run(call)


def object_key(record: FailureRecord, unique: uuid.UUID) -> str:
    """`aws/lambda/<mapping>/<topic-partition>/YYYY/MM/DD/YYYY-MM-DDTHH.MM.SS-<uuid>`.

    AWS documents the pattern for streams, where the partition's place is the shard's; its Kafka page shows
    none.
    """
    at = datetime.fromtimestamp(record.timestamp_ms // 1000, UTC)
    place = f"aws/lambda/{record.mapping_uuid}/{record.partition_key}"
    return f"{place}/{at:%Y/%m/%d}/{at:%Y-%m-%dT%H.%M.%S}-{unique}"


def _open(clients: AwsClients, arn: Arn) -> S3Destination:
    return S3Destination(clients, bucket=arn.resource)


KIND: Final = AwsKind(
    called="S3 bucket", service="s3", resource=re.compile(r"[A-Za-z0-9.-]+"), regional=False, opens=_open
)
