"""A handler with Powertools for AWS Lambda (Python): its batch processor answers for each record."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.kafka_event import KafkaEventRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

PROCESSOR = BatchProcessor(event_type=EventType.Kafka, raise_on_entire_batch_failure=False)
PROOF = Path(os.environ["PROOF_DIR"])


def process(record: KafkaEventRecord) -> None:
    """Process one record, or raise."""
    if record.json_value["poison"]:
        raise ValueError("poison")
    key = record.decoded_key
    row = json.dumps([[record.offset, key and key.decode(), record.decoded_value.decode()]])
    with (PROOF / f"done-{record.topic}-{record.partition}").open("a") as proof:
        proof.write(f"\n{row}\n")


def handler(event: dict[str, Any], context: LambdaContext) -> Any:
    """Process a batch of a Kafka event source mapping."""
    return process_partial_response(event=event, record_handler=process, processor=PROCESSOR, context=context)
