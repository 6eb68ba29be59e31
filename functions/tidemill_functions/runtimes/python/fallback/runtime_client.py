"""Stands in for awslambdaric's compiled module where that was built for another interpreter.

The calls of its C extension, over one kept connection. Imported by awslambdaric alone, in a handler's
process, by any Python from 3.10 on.
"""

import os
import socket
from typing import BinaryIO

_ROOT = "/2018-06-01/runtime/invocation/"
_OK, _ACCEPTED = 200, 202
_DEADLINE = "Lambda-Runtime-Deadline-Ms"  # a number to the extension's callers


class _Connection:
    """The connection to the Runtime API, made at the first request."""

    def __init__(self) -> None:
        self.user_agent = ""
        self._socket: socket.socket | None = None
        self._replies: BinaryIO | None = None

    def request(
        self, method: str, path: str, data: bytes, headers: "dict[str, str]"
    ) -> "tuple[int, dict[str, str], bytes]":
        """Send a request; return the reply's status, headers and body."""
        address = os.environ["AWS_LAMBDA_RUNTIME_API"]
        if self._socket is None:
            host, _, port = address.partition(":")
            self._socket = socket.create_connection((host, int(port or 80)))
            self._replies = self._socket.makefile("rb")
        lines = {"Host": address, "User-Agent": self.user_agent, "Content-Length": str(len(data)), **headers}
        fields = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        head = f"{method} {_ROOT}{path} HTTP/1.1\r\n{fields}\r\n"
        self._socket.sendall(head.encode("latin-1", "replace") + data)
        assert self._replies is not None
        return _read_reply(self._replies)


def _read_reply(replies: BinaryIO) -> "tuple[int, dict[str, str], bytes]":
    _, _, status = _line(replies).partition(" ")
    headers = {}
    while line := _line(replies):
        name, _, value = line.partition(":")
        headers[name.strip()] = value.strip()
    return int(status.split()[0]), headers, replies.read(int(headers.get("Content-Length", 0)))


def _line(replies: BinaryIO) -> str:
    line = replies.readline()
    if not line:
        raise RuntimeError("The Runtime API has ended the connection")
    return line.decode("latin-1").rstrip("\r\n")


_connection = _Connection()


def initialize_client(user_agent: str) -> None:
    """Remember the User-Agent of every request."""
    _connection.user_agent = user_agent


def next() -> "tuple[bytes, dict[str, str | int]]":  # noqa: A001 - the extension's own name
    """Wait for an invocation; return its payload and its headers."""
    status, headers, body = _connection.request("GET", "next", b"", {})
    if status != _OK:
        raise RuntimeError(f"Failed to get next: {status}")
    return body, {**headers, _DEADLINE: int(headers[_DEADLINE])}


def post_invocation_result(
    invoke_id: str, result_data: bytes, content_type: str, invocation_id: "str | None" = None
) -> None:
    """Send a result."""
    _post(f"{invoke_id}/response", result_data, {"Content-Type": content_type}, invocation_id)


def post_error(
    invoke_id: str, error_response_data: "str | bytes", xray_fault: str, invocation_id: "str | None" = None
) -> None:
    """Send an error document."""
    data = error_response_data if isinstance(error_response_data, bytes) else error_response_data.encode()
    headers = {
        "Content-Type": "application/json",
        "Lambda-Runtime-Function-Error-Type": "Unhandled",
        "Lambda-Runtime-Function-XRay-Error-Cause": xray_fault.replace("\r", " ").replace("\n", " "),
    }
    _post(f"{invoke_id}/error", data, headers, invocation_id)


def _post(path: str, data: bytes, headers: "dict[str, str]", invocation_id: "str | None") -> None:
    own = {"Lambda-Runtime-Invocation-Id": invocation_id} if invocation_id else {}
    status, _, _ = _connection.request("POST", path, data, {**headers, **own})
    if status != _ACCEPTED:
        raise RuntimeError(f"Failed to post {path.rpartition('/')[2]}: {status}")
