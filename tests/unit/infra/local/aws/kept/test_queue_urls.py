"""Queues after a start on another port."""

from typing import Any

from tidemill_local.aws.kept.queue_urls import moved, netlocs

OLD, NEW = "http://127.0.0.1:4580/123456789012/q", "http://127.0.0.1:5000/123456789012/q"
QUEUE = ("sqs._queues", ("123456789012", "us-east-1", OLD))


def at_new(place: tuple[str, Any], value: Any) -> Any:
    return moved(place, value, netlocs([QUEUE]), "127.0.0.1:5000")


def test_a_queue_and_its_name_are_kept_by_the_url_of_now() -> None:
    place, value = at_new(QUEUE, {"url": OLD, "n": 1})
    assert place == ("sqs._queues", ("123456789012", "us-east-1", NEW))
    assert value == {"url": NEW, "n": 1}
    name = ("sqs._queue_name_to_url", ("123456789012", "us-east-1", "q"))
    assert at_new(name, OLD) == (name, NEW)


def test_a_stack_finds_its_queue() -> None:
    stack = ("cloudformation._stacks", ("123456789012", "us-east-1", "stack"))
    value = {"_resources": {"Queue": {"PhysicalResourceId": OLD, "Place": [1, OLD]}}}
    found = at_new(stack, value)[1]["_resources"]["Queue"]
    assert found == {"PhysicalResourceId": NEW, "Place": [1, NEW]}


def test_what_is_no_queues_stays_as_it_is() -> None:
    secret = ("secretsmanager._secrets", ("123456789012", "us-east-1", "s"))
    assert at_new(secret, {"SecretString": OLD}) == (secret, {"SecretString": OLD})
