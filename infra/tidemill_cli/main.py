"""The command `tidemill`: owns its shape (names and flags stay, people script them) and its exit codes.

0 done · 1 refused or failed, one sentence on standard error · 2 a mistake on the command line · 130
interrupted · 141 the reader of the output has left. Commands import what they need when they run, so that
`--help` is quick.
"""

import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module

import typer

from tidemill_cli import function, mapping, run, topic
from tidemill_cli.errors import explain
from tidemill_local.programs import reach_loopback_directly

_INTERRUPTED = 130
# As a shell sees a program that SIGPIPE ended.
_READER_LEFT = 141
# These pass their arguments on untouched: each program has a command line of its own.
_PROGRAMS = ("broker", "poller", "functions")

app = typer.Typer(
    name="tidemill",
    help="Lambda event source mappings for Kafka, anywhere.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with `tidemill demo`, or `tidemill up` and `export AWS_ENDPOINT_URL=http://127.0.0.1:4580`.",
)
run.add_to(app)
app.add_typer(function.app, name="function")
app.add_typer(mapping.app, name="mapping")
app.add_typer(topic.app, name="topic")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Where UTF-8 is not spoken, `?` stands for what is lacking.
        sys.stdout.reconfigure(errors="replace")
    os.environ |= reach_loopback_directly(os.environ)
    if arguments and arguments[0] in _PROGRAMS:
        status: int = import_module(f"tidemill_{arguments[0]}.__main__").main(arguments[1:])
        return status
    try:
        app(arguments)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(bool(ended.code))
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # Who read the output has enough (`… | head -1`); what Python still holds goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _READER_LEFT
    except Exception as error:
        complaint = explain(error)
        if complaint is None:
            raise
        print(f"error: {complaint}", file=sys.stderr)
        if complaint.hint:
            print(f"hint: {complaint.hint}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
