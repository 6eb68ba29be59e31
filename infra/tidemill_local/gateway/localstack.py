"""Owns what scripts that wait for LocalStack read: its health and its stages, in its shape. Pure.

Authority: LocalStack's internal endpoints, https://docs.localstack.cloud/references/internal-endpoints/.
"""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Final

PATHS: Final = ("/_localstack/health", "/_localstack/init", "/_localstack/init/{stage}", "/_localstack/info")
# By LocalStack's names; of the embedded AWS the ones that its own scripts wait for.
_SERVICES: Final[Mapping[str, tuple[str, ...]]] = {
    "functions": ("lambda",),
    "poller": ("lambda",),
    "broker": ("kafka",),
    "aws": (
        *(
            "apigateway",
            "cloudformation",
            "cloudwatch",
            "dynamodb",
            "dynamodbstreams",
            "ec2",
            "ecr",
            "events",
        ),
        *("firehose", "iam", "kinesis", "kms", "logs", "route53", "s3", "s3control", "scheduler"),
        *("secretsmanager", "ses", "sns", "sqs", "ssm", "stepfunctions", "sts"),
    ),
}
_STAGES: Final = ("BOOT", "START", "READY", "SHUTDOWN")


def document(path: str, states: Mapping[str, str]) -> Mapping[str, Any] | None:
    """What is answered for a path, None if there is no such stage; ``states`` are "up" or "down"."""
    is_ready = all(state == "up" for state in states.values())
    if path in {"/_localstack/health", "/health"}:
        return {"services": _services(states), "edition": "tidemill", "version": version("tidemill")}
    if path == "/_localstack/info":
        return {"version": version("tidemill"), "edition": "tidemill", "is_license_activated": False}
    completed = {stage: is_ready and stage != "SHUTDOWN" for stage in _STAGES}
    if path == "/_localstack/init":
        return {"completed": completed, "scripts": []}
    stage = path.rpartition("/")[2].upper()
    return {"stage": stage, "completed": completed[stage], "scripts": []} if stage in completed else None


def _services(states: Mapping[str, str]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for program, names in _SERVICES.items():
        for name in names:
            if found.get(name) != "starting":
                found[name] = "running" if states.get(program) == "up" else "starting"
    return dict(sorted(found.items()))
