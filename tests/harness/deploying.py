"""A running `up` to deploy to: tools run with its variables, and records go through what they deployed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.harness.processes import wait_until
from tests.harness.up import Up, clean_environ

SAMPLES = Path(__file__).resolve().parents[2] / "infra" / "aws"
AWS_CLI = str(Path(sys.executable).with_name("aws"))


@dataclass(kw_only=True)
class Target:
    """An `up` as deploying tools see it."""

    up: Up

    @property
    def cluster_arn(self) -> str:
        return str(self.up.ready["cluster_arn"])

    @property
    def bootstrap_servers(self) -> str:
        return str(self.up.ready["bootstrap_servers"])

    @property
    def environ(self) -> dict[str, str]:
        """What a user exports, and what the samples read."""
        return clean_environ(
            AWS_ENDPOINT_URL=self.up.ready["endpoint_url"],
            AWS_CONFIG_FILE=os.devnull,
            AWS_SHARED_CREDENTIALS_FILE=os.devnull,
            AWS_EC2_METADATA_DISABLED="true",
            CLUSTER_ARN=self.cluster_arn,
            BOOTSTRAP_SERVERS=self.bootstrap_servers,
        )

    def run(
        self,
        command: Sequence[str],
        folder: Path,
        environ: Mapping[str, str] | None = None,
        *,
        expected: Sequence[int] = (0,),
        stdin: str = "",
    ) -> str:
        """Run a tool; both of its outputs."""
        done = subprocess.run(
            command,
            cwd=folder,
            env=self.environ | {"HOME": str(folder), **(environ or {})},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=400,
        )
        said = done.stdout + done.stderr
        assert done.returncode in expected, f"{command}: {done.returncode}\n{said}\n{self.up.log[-4000:]}"
        return said

    def stacks(self) -> dict[str, str]:
        """Names and states of the stacks that there are."""
        pages = self.up.client("cloudformation").get_paginator("list_stacks").paginate()
        found = [stack for page in pages for stack in page["StackSummaries"]]
        return {
            stack["StackName"]: stack["StackStatus"]
            for stack in found
            if stack["StackStatus"] != "DELETE_COMPLETE"
        }

    def outputs(self, stack: str) -> dict[str, str]:
        """Outputs of a stack."""
        reply = self.up.client("cloudformation").describe_stacks(StackName=stack)
        return {
            output["OutputKey"]: output["OutputValue"] for output in reply["Stacks"][0].get("Outputs", [])
        }

    def items(self, table: str) -> set[tuple[str, str]]:
        """What the samples' function has put into its table: texts, each with its topic."""
        pages = self.up.client("dynamodb").get_paginator("scan").paginate(TableName=table)
        return {(item["id"]["S"], item["topic"]["S"]) for page in pages for item in page["Items"]}

    def topic(self, name: str) -> None:
        """Create a topic, unless it is there."""
        if name not in self.up.cli("topic", "list"):
            self.up.cli("topic", "create", name)

    def produce(self, topic: str, *texts: str) -> None:
        """Write records."""
        self.up.cli("topic", "produce", topic, *texts)

    def flows(self, topic: str, table: str, text: str) -> None:
        """Write a record, and wait until the function has put it into the table."""
        self.produce(topic, text)
        wait_until(lambda: (text, topic) in self.items(table), what=f"{text} of {topic} in {table}")

    def left(self, part: str = "") -> dict[str, list[str]]:
        """What tools make here, by kind, of those whose name has this part."""
        client = self.up.client
        mappings = client("lambda").list_event_source_mappings()["EventSourceMappings"]
        found = {
            "functions": [one["FunctionName"] for one in client("lambda").list_functions()["Functions"]],
            "layers": [one["LayerName"] for one in client("lambda").list_layers()["Layers"]],
            "mappings": [one["FunctionArn"] for one in mappings],
            "queues": client("sqs").list_queues().get("QueueUrls", []),
            "tables": client("dynamodb").list_tables()["TableNames"],
        }
        named = {kind: [name for name in names if part in name] for kind, names in found.items()}
        return {kind: names for kind, names in named.items() if names}

    def nothing_is_left(self, part: str = "") -> None:
        """Wait until all of it is gone."""
        wait_until(lambda: not self.left(part), what=f"nothing to be left of {self.left(part)}")


def sample(name: str, folder: Path) -> Path:
    """A copy of a sample, to deploy from."""
    return Path(shutil.copytree(SAMPLES / name, folder / name))


def failure(events: Sequence[dict[str, Any]]) -> str:
    """The first reason among a stack's events for which something failed."""
    reasons = [
        event["ResourceStatusReason"]
        for event in reversed(events)
        if event["ResourceStatus"].endswith("_FAILED")
    ]
    return str(reasons[0]) if reasons else ""
