"""Calls of CreateEventSourceMapping that are accepted as they are; each test bends one."""

from __future__ import annotations

from typing import Any

MSK = "arn:aws:kafka:us-east-1:123456789012:cluster/tidemill/0a1b2c3d-1111-2222-3333-444455556666-1"
VPC = [
    {"Type": "VPC_SUBNET", "URI": "subnet:subnet-0123456789abcdef0"},
    {"Type": "VPC_SECURITY_GROUP", "URI": "security_group:sg-0123456789abcdef0"},
]
SELF_MANAGED = {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": ["b1.example:9092", "b2.example:9092"]}}
QUEUE = "arn:aws:sqs:us-east-1:123456789012:failures"


def smk(**more: Any) -> dict[str, Any]:
    return {
        "FunctionName": "f",
        "SelfManagedEventSource": SELF_MANAGED,
        "Topics": ["orders"],
        "SourceAccessConfigurations": VPC,
        **more,
    }


def msk(**more: Any) -> dict[str, Any]:
    return {"FunctionName": "f", "EventSourceArn": MSK, "Topics": ["orders"], **more}
