"""The first frame of the user's own code, in the stacks of Lambda's runtimes."""

from __future__ import annotations

import pytest

from tidemill_poller.invoke.frames import first_frame

PYTHON = [
    '  File "/var/lang/lib/python3.11/concurrent/futures/thread.py", line 58, in run\n',
    '  File "/var/task/site-packages/lib.py", line 2, in call\n    work()\n',
    '  File "/var/task/app.py", line 9, in handler\n    parse(text)\n',
    '  File "/var/task/orders.py", line 5, in parse\n    raise Bad(text)\n',
]
NODE = [
    "TypeError: no",
    "    at node:internal/main/run_main_module:28:49",
    "    at Object.call (/var/task/node_modules/lib/index.js:3:1)",
    "    at async handler (file:///var/task/app.mjs:7:11)",
    "    at /var/task/other.js:1:2",
]
JAVA = [
    "java.base/java.lang.Integer.parseInt(Integer.java:652)",
    "com.amazonaws.services.lambda.runtime.api.client.EventHandlerLoader.call(EventHandlerLoader.java:1)",
    "example.Orders.handle(Orders.java:12)",
]


@pytest.mark.parametrize(
    ("stack", "place"),
    [
        (PYTHON, "(app.py:9 in handler)"),
        (NODE, "(app.mjs:7 in handler)"),
        (NODE[-1:], "(other.js:1)"),
        (JAVA, "(Orders.java:12 in example.Orders.handle)"),
        (PYTHON[:2], ""),
        ([], ""),
        ([1, None, "no frame", {"a": 1}], ""),
        (["x" * 100_000 + "(" * 100_000], ""),
    ],
)
def test_what_the_user_wrote_is_named(stack: list[object], place: str) -> None:
    assert first_frame(stack) == place
