"""Whatever a client sends, no HTTP server of ours answers 500 or ends a connection without an answer."""

from __future__ import annotations

import asyncio
import json
import os
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.harness.processes import wait_until
from tests.harness.programs import SHELLS, Shell, free_port, started

pytestmark = pytest.mark.slow

SEED = int(os.environ.get("TIDEMILL_FUZZ_SEED", "20140612"))
REQUESTS = int(os.environ.get("TIDEMILL_FUZZ_REQUESTS", "2000"))
AT_ONCE = 32
# Who waits for the rest of a request says nothing; its deadline has tests of its own.
SILENCE_S = 0.5
PAUSE_S = 0.02

MAPPING = "/2015-03-31/event-source-mappings/"
FUNCTION = "/2015-03-31/functions/"
ARN = "arn%3Aaws%3Alambda%3Aus-east-1%3A123456789012%3Aevent-source-mapping%3A"
ARN += "4f6f3bd0-0e9a-4b0c-8a55-000000000000"
PATHS = (
    *(
        "/",
        "*",
        "//",
        "//[",
        "http://[",
        "http://[::1/",
        "http://h/v1/clusters",
        "h:80",
        "/%",
        "/%zz",
        "/%00",
        "/%ff",
    ),
    *("/\xff", "/\u00e9", "/;;", "/..", "/#x", "/ x", "/[", "/\x7f", "/" + "a" * 7000, "/" + "a" * 9000),
    *("/_tidemill/", "/_tidemill/health", "/_tidemill/functions", "/_tidemill/functions/%00/logs?follow=0"),
    *("/_tidemill/layers/x/" + "9" * 5000 + "/code", "/_tidemill/layers/" + "x" * 300 + "/1/code"),
    *("/2018-10-31/layers/x/versions/" + "9" * 4200, "/2018-10-31/layers/%2e%2e/versions/1"),
    *("/_tidemill/functions/fuzzed/logs?lines=-1", "/_tidemill/functions/fuzzed/logs?lines=" + "9" * 30),
    *("/_tidemill/functions/fuzzed/code", "/_tidemill/functions/..%2f..%2fx/code", "/_tidemill/mappings"),
    *(
        "/_tidemill/mappings/%00/status",
        "/_tidemill/mappings/x/deliveries",
        "/_tidemill/functions/fuzzed/logs",
    ),
    *(MAPPING, MAPPING + "%00", MAPPING + "4f6f3bd0-0e9a-4b0c-8a55-000000000000", MAPPING + "?MaxItems=0x1"),
    *(
        MAPPING + "?MaxItems=" + "9" * 5000,
        MAPPING + "?Marker=%ff%fe",
        MAPPING + "?MaxItems=-1&MaxItems=\xff",
    ),
    *(
        MAPPING + "?EventSourceArn=%",
        MAPPING + "?FunctionName=" + "a" * 500,
        MAPPING + "?Marker=\x00",
        MAPPING + "?=",
    ),
    *(
        MAPPING + "?Marker=AAAA",
        MAPPING + "?Marker=" + "9" * 30,
        "/2017-03-31/tags/" + ARN,
        "/2017-03-31/tags/%00",
    ),
    *(
        FUNCTION,
        FUNCTION + "%00",
        FUNCTION + "fuzzed",
        FUNCTION + "fuzzed/invocations",
        FUNCTION + "a%00/invocations",
    ),
    *(
        FUNCTION + "%ff/invocations",
        FUNCTION + "fuzzed/code",
        FUNCTION + "fuzzed/configuration",
        FUNCTION + "?MaxItems=x",
    ),
    *(
        FUNCTION + "..%2f..%2fetc/invocations",
        FUNCTION + "fuzzed/invocations?Qualifier=%ff",
        FUNCTION + "?Marker=%ff",
    ),
    *(
        "/v1/clusters",
        "/v1/clusters?maxResults=1e9",
        "/v1/clusters?nextToken=%ff",
        "/v1/clusters/%00",
        "/v1/clusters/%",
    ),
    *(
        "/v1/clusters/arn%3Aaws%3Akafka%3A%ff/nodes",
        "/api/v2/clusters",
        "/api/v2/clusters?clusterTypeFilter=\xff",
    ),
    *(
        "/v1/clusters/x/bootstrap-brokers",
        "/?X-Amz-Credential=%ff",
        "/?X-Amz-Credential=////",
        "/?%ff=%ff&&&=&;",
    ),
)
METHODS = (
    "GET",
    "POST",
    "PUT",
    "DELETE",
    "HEAD",
    "OPTIONS",
    "PATCH",
    "CONNECT",
    "TRACE",
    "PRI",
    "get",
    "\xff",
    "",
)
HEADERS = (
    *(
        "Host",
        "Origin",
        "Referer",
        "Content-Length",
        "Transfer-Encoding",
        "X-Amz-Date",
        "Authorization",
        "Date",
    ),
    *(
        "Content-Type",
        "X-Amz-Target",
        "X-Amz-Client-Context",
        "X-Amzn-Trace-Id",
        "Traceparent",
        "Content-Encoding",
    ),
    *(
        "Expect",
        "Connection",
        "Upgrade",
        "Sec-Fetch-Site",
        "Accept",
        "Accept-Encoding",
        "Cookie",
        "Range",
        "TE",
    ),
    *("If-Modified-Since", "X-Amz-Invocation-Type", "X-Amz-Log-Type", "Forwarded", "Trailer", "Keep-Alive"),
    *(
        "X-Amz-Content-Sha256",
        "X-Amz-Security-Token",
        "X-Forwarded-For",
        "Sec-WebSocket-Key",
        "X_Y",
        "X Y",
        "",
        "\xff",
    ),
)
SCOPES = tuple(
    f"AWS4-HMAC-SHA256 Credential=AKID/20261201/us-east-1/{service}/aws4_request, Signature=0"
    for service in ("lambda", "kafka", "sqs", "s3", "\xff", "")
)
VALUES = (
    *(
        "",
        " ",
        "\xff\xfe",
        "http://[",
        "http://[::1",
        "http://]",
        "//[",
        "[",
        "]",
        "[::1",
        "[::1]:x",
        "::",
        "a:b:c",
    ),
    *(
        "127.0.0.1:4580",
        "localhost",
        "-1",
        "+1",
        "1e3",
        "0x10",
        "9" * 20,
        "9" * 5000,
        "\u0130",
        "a" * 8000,
        '"',
        "%",
    ),
    *(
        "text/plain; charset=nope",
        'application/json; charset="',
        "application/json; charset=\xff",
        "a/b; c",
        "/",
        ";",
    ),
    *(
        "multipart/form-data",
        "application/x-www-form-urlencoded",
        "application/x-amz-json-1.0",
        "null",
        "\t",
        "\x00",
    ),
    *(
        "\x7f",
        "\r",
        "\n",
        "a\r\n b",
        "=?utf-8?b?x?=",
        "e30=",
        "W10=",
        "bnVsbA==",
        "Root=1-",
        "Root=;Parent=;Sampled=9",
    ),
    *(
        "100-continue",
        "200-continue",
        "websocket",
        "chunked",
        "chunked, gzip",
        "gzip, chunked",
        "identity",
        "gzip",
    ),
    *(
        "close",
        "keep-alive",
        "close, content-length",
        "host, content-type",
        "upgrade",
        "Credential=",
        "Credential=////",
    ),
    *(
        "Event",
        "DryRun",
        "RequestResponse",
        "Tail",
        "cross-site",
        "20261201T000000Z",
        "Thu, 99 Foo 9999 99:99:99 GMT",
    ),
    *(
        "bytes=9-0",
        "Lambda.Invoke",
        "AmazonSQS.\xff",
        "1-67-x",
        "00-" + "0" * 32 + "-" + "0" * 16 + "-00",
        "br",
        "zstd",
    ),
    *SCOPES,
)
NUMBERS = (
    "0",
    "-1",
    "1e999",
    "-0.0",
    "1e400",
    "99999999999999999999999",
    "1.5",
    "1e18",
    "9223372036854775808",
    "NaN",
)
TEXTS = (
    '""',
    '"a"',
    '"\\u0000"',
    '"\\ud800"',
    '"\\u202e"',
    '"' + "a" * 5000 + '"',
    '"fuzzed"',
    '"2026-99-99T"',
)
OTHERS = (
    "null",
    "true",
    "[]",
    "{}",
    "[null]",
    "[[]]",
    '{"":null}',
    "[" * 2000,
    '[{"a":1}]',
    '{"Endpoints":[]}',
)
MEMBERS = (
    *(
        "FunctionName",
        "EventSourceArn",
        "BatchSize",
        "Enabled",
        "StartingPosition",
        "StartingPositionTimestamp",
    ),
    *(
        "Topics",
        "SelfManagedEventSource",
        "FilterCriteria",
        "Tags",
        "DestinationConfig",
        "BisectBatchOnFunctionError",
    ),
    *(
        "MaximumRecordAgeInSeconds",
        "SourceAccessConfigurations",
        "AmazonManagedKafkaEventSourceConfig",
        "UUID",
    ),
    *(
        "Code",
        "Handler",
        "Role",
        "Runtime",
        "Timeout",
        "MemorySize",
        "Environment",
        "Publish",
        "Layers",
        "ZipFile",
    ),
    *(
        "name",
        "path",
        "handler",
        "timeout_s",
        "environment",
        "python",
        "ProvisionedPollerConfig",
        "ParallelizationFactor",
    ),
)
BODIES = (
    b"",
    b"{}",
    b"{",
    b"[",
    b"null",
    b"\xff",
    b"\x00",
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b"\xef\xbb\xbf{}",
    b"1",
)


CHUNKS = (
    *(b"2\r\n{}\r\n0\r\n\r\n", b"FFFFFFFFFFFFFFFFF\r\n{", b"-1\r\n{", b"1\r\n{}\r\n0\r\n\r\n"),
    *(b"zz\r\n", b"\r\n", b"0\r\n", b'2;x="\r\n{}\r\n0\r\nA: b\r\n\r\n', b"2\n{}\n0\n\n", b"2\r\n{}"),
    *(b"0\r\nContent-Length: 9\r\n\r\n", b" 2\r\n{}", b"0\r\n" + b"a: b\r\n" * 500 + b"\r\n"),
    *(b"2;" + b"e" * 9000 + b"\r\n{}\r\n0\r\n\r\n", b"+2\r\n{}\r\n0\r\n\r\n"),
)
# What is nearly right goes further than what is not.
NEARLY_RIGHT = {
    MAPPING: {
        "FunctionName": "fuzzed",
        "SelfManagedEventSource": {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": ["127.0.0.1:1"]}},
        "Topics": ["orders"],
        "StartingPosition": "AT_TIMESTAMP",
        "StartingPositionTimestamp": 1.5,
        "BatchSize": 9,
        "Enabled": False,
        "FilterCriteria": {"Filters": [{"Pattern": '{"value":{"a":[1]}}'}]},
        "DestinationConfig": {"OnFailure": {"Destination": "arn:aws:sqs:us-east-1:123456789012:q"}},
        "Tags": {"a": "b"},
    },
    FUNCTION: {
        "FunctionName": "made",
        "Role": "arn:aws:iam::123456789012:role/r",
        "Code": {"ZipFile": "UEsFBgAAAAAAAAAAAAAAAAAAAAAAAA=="},
        "Handler": "app.handler",
        "Runtime": "python3.12",
        "Environment": {"Variables": {"A": "b"}},
        "Timeout": 3,
    },
    "/_tidemill/functions": {
        "name": "fuzzed",
        "path": ".",
        "handler": "a.b",
        "timeout_s": 3,
        "environment": {},
    },
}


def nearly_right(generator: random.Random) -> tuple[str, bytes]:
    """A path and a document for it in which one value, at any depth, is another one."""
    path = generator.choice(list(NEARLY_RIGHT))
    whole: Any = json.loads(json.dumps(NEARLY_RIGHT[path]))
    place = whole
    while True:
        key = generator.choice(list(place)) if isinstance(place, dict) else generator.randrange(len(place))
        if not place[key] or not isinstance(place[key], dict | list) or generator.random() < 0.4:
            break
        place = place[key]
    place[key] = "FAULT"
    fault = generator.choice(generator.choice((NUMBERS, TEXTS, OTHERS)))
    return path, json.dumps(whole).replace('"FAULT"', fault, 1).encode()


def document(generator: random.Random) -> bytes:
    """JSON with members of the operations, of the wrong type or out of range."""
    members = generator.sample(MEMBERS, generator.randint(1, 8))
    values = [generator.choice(generator.choice((NUMBERS, TEXTS, OTHERS))) for _ in members]
    return (
        "{" + ",".join(f'"{name}":{value}' for name, value in zip(members, values, strict=True)) + "}"
    ).encode()


def random_request(generator: random.Random) -> bytes:
    """One request with up to four faults, and sometimes some bytes altered."""
    path = generator.choice(PATHS)
    body = document(generator) if generator.random() < 0.6 else generator.choice(BODIES)
    if is_near := generator.random() < 0.3:
        path, body = nearly_right(generator)
    headers = {
        "Host": "127.0.0.1",
        "Content-Length": str(len(body)),
        "Authorization": generator.choice(SCOPES[:2]),
    }
    if generator.random() < 0.3:
        del headers["Authorization"]
    for _ in range(generator.choice((0, 1, 1, 2, 4))):
        headers[generator.choice(HEADERS)] = generator.choice(VALUES)
    if generator.random() < 0.15:
        headers.pop("Content-Length", None)
        headers["Transfer-Encoding"], body = "chunked", generator.choice(CHUNKS)
    if is_near and generator.random() < 0.7:
        headers = {"Host": "h", "Content-Length": str(len(body))}
    method = "POST" if is_near else generator.choice(METHODS[:4] if generator.random() < 0.9 else METHODS)
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{n}: {v}\r\n" for n, v in headers.items())
    whole = bytearray(head.encode("latin-1", "replace") + b"\r\n" + body)
    if generator.random() < 0.1:
        for _ in range(generator.randint(1, 4)):
            whole[generator.randrange(min(len(whole), 300))] = generator.randrange(256)
    return bytes(whole)


async def reply(port: int, sent: bytes, pause_after: int) -> bytes | None:
    """What the server says at first; None if it waits for more, b"" if it closes without an answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent[:pause_after])
        if sent[pause_after:]:
            await asyncio.sleep(PAUSE_S)  # the server reads the rest later, in the middle of the request
            writer.write(sent[pause_after:])
        async with asyncio.timeout(SILENCE_S):
            line = await reader.readline()
            # An interim answer is none.
            while line.startswith(b"HTTP/1.1 100"):
                await reader.readline()
                line = await reader.readline()
            return line
    except TimeoutError:
        return None
    except ConnectionError:
        return b""
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def faults(port: int, requests: Sequence[bytes], generator: random.Random) -> list[tuple[bytes, bytes]]:
    """The requests that were answered 500 or not at all, with the answers."""
    found: list[tuple[bytes, bytes]] = []
    waiting = iter(requests)

    async def send() -> None:
        for request in waiting:
            is_whole = generator.random() < 0.7
            line = await reply(port, request, len(request) if is_whole else generator.randrange(len(request)))
            if line is not None and (not line.startswith(b"HTTP/") or line[9:12] == b"500"):
                found.append((request, line))

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(send())
    return found


class Programs:
    """The four programs behind one gateway; the embedded AWS, which is moto's, is not there."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self.stack = folder, stack
        self.logs: dict[str, list[str]] = {}
        ports = {name: self._start(name, SHELLS[name]) for name in ("broker", "poller", "functions")}
        upstreams = [
            part for name, port in ports.items() for part in (f"--{name}", f"http://127.0.0.1:{port}")
        ]
        gateway = Shell(
            module="tidemill_local.gateway",
            arguments=(*upstreams, "--aws", "http://127.0.0.1:1"),
            port_flag="--socket-fd",
            hint="",
            has_data_dir=False,
        )
        self.ports = ports | {"gateway": self._start("gateway", gateway)}

    def _start(self, name: str, shell: Shell) -> int:
        (folder := self.folder / name).mkdir()
        port = self.stack.enter_context(free_port(shell))
        process = self.stack.enter_context(started(shell, folder, port))
        lines = self.logs[name] = []
        assert process.stdout is not None
        threading.Thread(target=lines.extend, args=(process.stdout,), daemon=True).start()
        ready_file = folder / "ready.json"
        wait_until(lambda: ready_file.exists() or process.poll() is not None, what="the ready file")
        ready = json.loads(ready_file.read_text())
        return int(ready.get("control_port", ready["port"]))


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Programs]:
    with ExitStack() as stack:
        yield Programs(tmp_path_factory.mktemp("programs"), stack)


@pytest.mark.parametrize("name", ["broker", "poller", "functions", "gateway"])
async def test_every_request_is_answered_and_none_by_500(programs: Programs, name: str) -> None:
    generator = random.Random(f"{SEED} {name}")
    requests = [random_request(generator) for _ in range(REQUESTS)]
    found = await faults(programs.ports[name], requests, generator)
    assert not found, f"seed {SEED}: {len(found)} of {REQUESTS}: {found[0][1]!r} to {found[0][0][:2000]!r}"
    said = "".join(programs.logs[name])
    assert "Traceback" not in said, said[said.index("Traceback") - 300 :][:3000]
