"""The shim around each program of `up`: ``python -m tidemill_local.child broker --port 0 …``.

Runs the program in this process, and ends it at once when the launcher is gone, even by kill -9: standard
input is a pipe from the launcher, and its end of file is the launcher's death. Programs withstand being
killed at any instant.

See docs/decisions/0802.
"""

import logging
import os
import sys
import threading
from importlib import import_module

from tidemill_local.shell import keep_private

MODULES = {
    "aws": "tidemill_local.aws.__main__",
    "broker": "tidemill_broker.__main__",
    "functions": "tidemill_functions.__main__",
    "gateway": "tidemill_local.gateway.__main__",
    "poller": "tidemill_poller.__main__",
    # A whole `up` below the demo.
    "tidemill": "tidemill_cli.main",
}
_ORPHANED = 1
# Their INFO is for their developers, and would be half of the one log.
_LIBRARIES = (
    "aiokafka",
    "asyncio",
    "boto3",
    "botocore",
    "ministack",
    "moto",
    "s3transfer",
    "urllib3",
    "werkzeug",
)


def main() -> int:
    """Run the program named first with the arguments that follow."""
    keep_private()
    name, *arguments = sys.argv[1:]
    threading.Thread(target=_end_with_launcher, daemon=True).start()
    program = import_module(MODULES[name])
    # After the import: the poller sets the level of botocore itself.
    for library in _LIBRARIES:
        logging.getLogger(library).setLevel(logging.WARNING)
    status: int = program.main(arguments)
    return status


def _end_with_launcher() -> None:
    while os.read(0, 1):
        pass
    os._exit(_ORPHANED)


if __name__ == "__main__":
    sys.exit(main())
