"""moto's server, as the functions server and its tests see it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from moto.server import ThreadedMotoServer

from tests.harness.processes import wait_until

ACCOUNT = "123456789012"


class Aws:
    """moto, as the functions server and the test see it."""

    def __init__(self, url: str) -> None:
        self.url = url

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def queue(self, name: str) -> tuple[str, str]:
        """Make a queue; its URL and its ARN."""
        url: str = self.client("sqs").create_queue(QueueName=name)["QueueUrl"]
        return url, f"arn:aws:sqs:us-east-1:{ACCOUNT}:{name}"

    def message(self, url: str) -> dict[str, Any]:
        """Wait for one message."""
        client = self.client("sqs")

        def read() -> Any:
            return client.receive_message(
                QueueUrl=url, MessageAttributeNames=["All"], WaitTimeSeconds=1, MaxNumberOfMessages=1
            ).get("Messages")

        found: dict[str, Any] = wait_until(read, what="a message")[0]
        client.delete_message(QueueUrl=url, ReceiptHandle=found["ReceiptHandle"])
        return found


def environment(url: str) -> dict[str, str]:
    return {
        "TIDEMILL_FUNCTIONS_EVENT_RETRY_DELAYS_S": "[0.01, 0.02]",
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }


@contextmanager
def running_moto() -> Iterator[Aws]:
    """moto in a thread of this process."""
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    moto.start()
    host, port = moto.get_host_and_port()
    yield Aws(f"http://{host}:{port}")
    moto.stop()
