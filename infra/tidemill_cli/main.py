"""The command `tidemill`: owns its shape (names and flags stay, people script them) and its exit codes.

0 done · 1 rejected or failed, one sentence on standard error · 2 a mistake on the command line · 130
interrupted · 141 the reader of the output has left. Commands import what they need when they run, so that
`--help` is quick.
"""

import io
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from importlib.metadata import version
from typing import Annotated

import typer

from tidemill_cli import environment, function, mapping, run, topic
from tidemill_cli.errors import UserError, explain
from tidemill_cli.options import command_group
from tidemill_cli.output import Spelled, UsageError, say
from tidemill_cli.portable import commands
from tidemill_local.programs import reach_loopback_directly

_INTERRUPTED = 130
# As a shell sees a program that SIGPIPE ended.
_READER_LEFT = 141
# These pass their arguments on untouched: each program has a command line of its own.
_PROGRAMS = ("broker", "poller", "functions")

app = command_group(
    "Lambda event source mappings for Kafka, anywhere.",
    name="tidemill",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with `tidemill demo`, or with `tidemill up` and the variables that it prints.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"tidemill {version('tidemill')}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version")
    ] = False,
) -> None:
    """Lambda event source mappings for Kafka, anywhere."""


run.add_to(app)
environment.add_to(app)
app.add_typer(function.app, name="function")
app.add_typer(mapping.app, name="mapping")
app.add_typer(topic.app, name="topic")
commands.add_to(app)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Where the terminal has no UTF-8, `?` stands for what cannot be encoded.
        sys.stdout.reconfigure(errors="replace")
    os.environ |= reach_loopback_directly(os.environ)
    if arguments and arguments[0] in _PROGRAMS:
        return _run_program(arguments[0], arguments[1:])
    try:
        is_aws = arguments[:1] == ["aws"]
        status = environment.run_aws(arguments[1:]) if is_aws else app(arguments, standalone_mode=False)
        return status if isinstance(status, int) else 0
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(bool(ended.code))
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader of the output has ended (`… | head -1`): discard what Python still holds.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _READER_LEFT
    except Exception as error:
        problem = _explained(error)
        if problem is None:
            raise
        return problem


def _explained(error: Exception) -> int | None:
    """Say what is wrong and return the exit status; None for what is our own bug."""
    if isinstance(error, UsageError):
        return _explain_usage(error)
    problem = UserError("Aborted.") if isinstance(error, typer.Abort) else explain(error)
    if problem is None:
        return None
    print(*problem.lines(), sep="\n", file=sys.stderr)
    return 1


def _run_program(name: str, arguments: Sequence[str]) -> int:
    """Run a program in this process; what it says of its command line passes `visible` too."""
    with redirect_stdout(Spelled(sys.stdout)), redirect_stderr(Spelled(sys.stderr)):
        status: int = import_module(f"tidemill_{name}.__main__").main(arguments)
    return status


def _explain_usage(error: UsageError) -> int:
    """Say what is wrong with the command line, which is quoted, and return the exit status."""
    said = io.StringIO()
    error.show(file=said)
    say(said.getvalue().rstrip("\n"))
    return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
