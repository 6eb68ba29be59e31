"""What scripts that wait for LocalStack find at the one endpoint."""

import json

import pytest

from tidemill_local.gateway.localstack import document

UP = dict.fromkeys(("functions", "poller", "broker", "aws"), "up")


def test_health_names_services_as_wait_scripts_grep_for_them() -> None:
    """Scripts look for the text: curl … | grep '"sqs": "running"'."""
    said = json.dumps(document("/_localstack/health", UP))
    for service in ("sqs", "s3", "dynamodb", "lambda", "kafka", "cloudformation"):
        assert f'"{service}": "running"' in said
    assert '"edition": ' in said
    assert '"version": ' in said


@pytest.mark.parametrize("down", ["functions", "poller"])
def test_a_service_with_a_program_that_is_down_is_not_running(down: str) -> None:
    found = document("/health", UP | {down: "down"})
    assert found is not None
    assert (found["services"]["lambda"], found["services"]["sqs"]) == ("starting", "running")


def test_stages_are_complete_when_everything_answers() -> None:
    assert document("/_localstack/init/ready", UP) == {"stage": "READY", "completed": True, "scripts": []}
    starting = document("/_localstack/init/ready", UP | {"aws": "down"})
    assert starting == {"stage": "READY", "completed": False, "scripts": []}
    whole = document("/_localstack/init", UP)
    assert whole is not None
    assert whole["completed"] == {"BOOT": True, "START": True, "READY": True, "SHUTDOWN": False}
    assert document("/_localstack/init/nothing", UP) is None
