"""The buffer of log lines is bounded, whatever AWS does."""

from __future__ import annotations

from tidemill_functions.aws import AwsClients
from tidemill_functions.reporting.cloudwatch_logs import BUFFER_BYTES_MAX, CloudWatchLogs


def test_the_oldest_lines_go_when_the_buffer_is_full() -> None:
    logs = CloudWatchLogs(AwsClients("us-east-1"))
    stream = logs.stream("/aws/lambda/f", "s")
    line = b"x" * 1023 + b"\n"
    for _ in range(2 * BUFFER_BYTES_MAX // 1024):
        stream.write(line, is_ours=False)
    assert logs._bytes <= BUFFER_BYTES_MAX
    assert len(logs._buffer) == logs._dropped_lines == BUFFER_BYTES_MAX // 1024
