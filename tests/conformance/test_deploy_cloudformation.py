"""The AWS CLI deploys a CloudFormation template with a mapping: made, used, deployed again, deleted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.deploying import AWS_CLI, Target, sample

STACK = "orders-cloudformation"


@pytest.mark.timeout(400)
def test_the_aws_cli_deploys_a_template_and_its_mapping_delivers(target: Target, tmp_path: Path) -> None:
    folder = sample("cloudformation", tmp_path)
    target.up.cli("topic", "create", "cloudformation-orders")
    deploy = [
        *(AWS_CLI, "cloudformation", "deploy", "--stack-name", STACK, "--template-file", "template.yaml"),
        *("--capabilities", "CAPABILITY_IAM", "--parameter-overrides", f"ClusterArn={target.cluster_arn}"),
        *("Topic=cloudformation-orders", "--no-fail-on-empty-changeset"),
    ]
    target.run(deploy, folder)
    outputs = target.outputs(STACK)
    target.flows("cloudformation-orders", outputs["TableName"], "first")

    assert f"No changes to deploy. Stack {STACK} is up to date" in target.run(deploy, folder)
    assert target.outputs(STACK) == outputs

    target.run([AWS_CLI, "cloudformation", "delete-stack", "--stack-name", STACK], folder)
    target.nothing_is_left(STACK)
