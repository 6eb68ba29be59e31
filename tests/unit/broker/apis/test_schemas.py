"""What requests need is loaded before no file can be opened any more."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.fakes.kafka_frames import request, request_frame
from tidemill_broker.apis import APIS

# Alone in its process, where nothing else has loaded a schema. Each request is the first of its version.
FIRST_REQUESTS = """
import asyncio, json, resource, sys
from pathlib import Path
from tests.fakes.inner_broker import inner_broker
from tidemill_broker.apis import CloseConnection, dispatch, table

async def main():
    frames = json.load(sys.stdin)
    table.BETWEEN_LOADS_S = 0
    if sys.argv[2] == "loaded":
        await table.load_schemas()
    with inner_broker(Path(sys.argv[1])) as inner:
        inner.broker.producer_ids.take()  # reserves a block of them in a file
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        files = []
        try:
            while True:
                files.append(open("/dev/null"))
        except OSError:
            pass
        unanswered = []
        for name, version, frame in frames:
            try:
                reply = dispatch(inner.broker, inner.connection, memoryview(bytes.fromhex(frame)))
                if not isinstance(reply, bytes | memoryview):
                    await reply
            except CloseConnection:
                pass  # what it says is wrong
            except Exception as fault:
                unanswered.append(f"{name} v{version}: {fault!r}")
        for file in files:
            file.close()
    print(json.dumps(unanswered))

asyncio.run(main())
"""


def unanswered(directory: Path, how: str) -> list[str]:
    frames = [
        (api.name, version, request_frame(request(api.key, version)).hex())
        for api in APIS.values()
        for version in range(api.min_version, api.max_version + 1)
        if not api.raw and not api.name.startswith("Sasl")
    ]
    done = subprocess.run(
        [sys.executable, "-c", FIRST_REQUESTS, str(directory), how],
        input=json.dumps(frames),
        cwd=Path(__file__).parents[4],
        capture_output=True,
        text=True,
        check=True,
    )
    answer: list[str] = json.loads(done.stdout)
    return answer


def test_a_first_request_of_each_version_is_answered_when_no_descriptor_is_left(tmp_path: Path) -> None:
    assert unanswered(tmp_path, "loaded") == []


def test_without_the_schemas_it_is_not(tmp_path: Path) -> None:
    assert len(unanswered(tmp_path, "unloaded")) > 100
