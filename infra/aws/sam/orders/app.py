"""Puts the text of each record into a table."""

import base64
import os
from typing import Any

import boto3

table = boto3.resource("dynamodb").Table(os.environ["TABLE"])


def handler(event: dict[str, Any], _context: object) -> None:
    """Handle one batch."""
    for records in event["records"].values():
        for record in records:
            text = base64.b64decode(record["value"]).decode()
            table.put_item(Item={"id": text, "topic": record["topic"]})
