"""DestinationConfig: which on-failure destinations a mapping may name.

Pure. Facts: AWS Lambda Developer Guide, kafka-on-failure-destination. Whether the destination exists is
found out when a record is sent there.
"""

from __future__ import annotations

import re
from collections import abc
from typing import Any, Final

from tidemill_poller.errors import InvalidParameter
from tidemill_poller.mapping.model import Mapping
from tidemill_poller.mapping.refusals import not_built

KINDS: Final = (
    re.compile(r"arn:aws[a-z-]*:sqs:[a-z0-9-]+:\d{12}:[A-Za-z0-9_.-]+"),
    re.compile(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_.-]+"),
    re.compile(r"arn:aws[a-z-]*:s3:::[A-Za-z0-9.-]+"),
)
"""The ARNs that poller.destinations can open: an SQS queue, an SNS topic, an S3 bucket."""

_KAFKA: Final = "kafka://"


def read_destination(config: abc.Mapping[str, Any], mapping: Mapping) -> str | None:
    """The on-failure destination after the call: "" removes it, one that is not named stays.

    Raises:
        InvalidParameter: OnSuccess, or a destination of a kind that Kafka mappings or Tidemill cannot use.

    """
    if (config.get("OnSuccess") or {}).get("Destination"):
        # AWS's own text, capitals and missing quotes and all.
        raise InvalidParameter("Unsupported DestinationConfig parameter for given event source mapping type.")
    asked: str | None = (config.get("OnFailure") or {}).get("Destination")
    if asked is None:
        return mapping.on_failure
    if asked == "":
        return None
    if asked.startswith(_KAFKA):
        _check_topic(asked.removeprefix(_KAFKA), mapping.topic)
    _check_arn(asked)
    return asked


def _check_topic(topic: str, source_topic: str) -> None:
    if topic == source_topic:
        raise InvalidParameter(
            f"The on-failure topic must not be the source topic '{topic}': failures would come back for ever."
        )
    not_built("a kafka:// destination")


def _check_arn(arn: str) -> None:
    if not any(pattern.fullmatch(arn) for pattern in KINDS):
        raise InvalidParameter(
            f"'{arn}' is no on-failure destination: give the ARN of an SQS queue, SNS topic or S3 bucket."
        )
    if arn.endswith(".fifo"):
        raise InvalidParameter(f"'{arn}' is FIFO, and on-failure destinations must be standard.")
