"""What the command line says of an AWS error: its words, the server's reason, the option that is missing."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from tidemill_cli.errors import explain


def lines(message: str, **headers: str) -> list[str]:
    about = {"Code": "InvalidParameterValueException", "Message": message}
    reply = {"Error": about, "ResponseMetadata": {"HTTPHeaders": headers}}
    problem = explain(ClientError(reply, "CreateEventSourceMapping"))
    assert problem is not None
    return problem.lines()


@pytest.mark.parametrize("field", ["maximumRetryAttempts", "bisectBatchOnFunctionError"])
def test_a_field_of_provisioned_mode_names_min_pollers(field: str) -> None:
    message = f"Unsupported '{field}' parameter for given event source mapping type."
    assert lines(message) == [
        f"error: InvalidParameterValueException: {message}",
        "hint: Lambda takes this only in provisioned mode: add --min-pollers 1 (ProvisionedPollerConfig).",
    ]


def test_another_field_gets_no_such_hint() -> None:
    assert (
        len(lines("Unsupported 'parallelizationFactor' parameter for given event source mapping type.")) == 1
    )


def test_the_server_s_reason_is_shown_and_cannot_control_the_terminal() -> None:
    said = lines(
        "Invalid filter pattern definition.", **{"x-tidemill-reason": r"\"lik\u00e9\u001b[2J\n\" is no"}
    )
    assert said[1:] == ['reason: "liké\\x1b[2J', '" is no']
