"""Commands about one data directory: the variables of its `up`, the AWS CLI with them, and forgetting it."""

import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from tidemill_cli.errors import UserError
from tidemill_local.settings import DEFAULT_DATA_DIR

# A token of another login would be sent beside these keys, and rejected.
_UNSET: Final = "AWS_SESSION_TOKEN"
_SHELLS: Final = ("sh", "fish", "powershell")
DataDir = Annotated[Path, typer.Option(help="The data directory of the `up`")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("env", short_help='Variables of the running `up`: eval "$(tidemill env)"')(env)
    app.command(
        "aws",
        help="The AWS CLI with the variables of the running `up`: tidemill aws sqs list-queues",
        short_help="The AWS CLI against the running `up`",
        add_help_option=False,
    )(_forwarded)
    app.command(short_help="Forget everything that `up` keeps")(reset)


def env(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    shell: Annotated[str, typer.Option(help="How to spell them: sh, fish or powershell")] = "sh",
) -> None:
    """Print what a shell needs to reach the running `up`, and its region, keys and account.

    For example:

        eval "$(tidemill env)"

        tidemill env --shell fish | source

        tidemill env --shell powershell | Invoke-Expression
    """
    if shell not in _SHELLS:
        raise UserError(f"--shell takes {', '.join(_SHELLS)}, not {shell!r}.")
    print("\n".join(spelled(_running(data_dir), shell)))


def reset(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask")] = False,
) -> None:
    """Remove what `up` keeps: queues, tables, topics, functions, mappings, keys.

    For example:

        tidemill reset

        tidemill reset --data-dir ci --yes
    """
    from tidemill_local.errors import UpError
    from tidemill_local.preconditions import locked
    from tidemill_local.settings import KEPT

    if not (data_dir / "up.lock").is_file():
        raise UserError(f"{data_dir} is no data directory of `tidemill up`: name one with --data-dir.")
    try:
        with locked(data_dir):
            there = [data_dir / name for name in KEPT if os.path.lexists(data_dir / name)]
            if there and not yes and not _agrees(data_dir):
                raise UserError("Nothing was removed.")
            for path in there:
                _remove(path)
    except UpError as error:
        raise UserError(str(error)) from None
    print(f"{data_dir} is empty: the next `tidemill up` starts afresh.")


def run_aws(arguments: Sequence[str]) -> int:
    """Become the AWS CLI with the variables of the running `up`; ``--data-dir DIR`` may come first."""
    data_dir = DEFAULT_DATA_DIR
    if arguments[:1] == ["--data-dir"] and len(arguments) > 1:
        data_dir, arguments = Path(arguments[1]), arguments[2:]
    program = shutil.which("aws") or shutil.which("aws", path=str(Path(sys.executable).parent))
    if program is None:
        raise UserError("The AWS CLI is not installed: pip install awscli, or take AWS's own installer.")
    running = _running(data_dir)
    environ = {name: value for name, value in os.environ.items() if name != _UNSET} | dict(running)
    # Older ones, and AWS CLI 1 for SQS, overlook the variable.
    command = [program, "--endpoint-url", running["AWS_ENDPOINT_URL"], *arguments]
    os.execve(program, command, environ)  # noqa: S606 - the user's own


def spelled(environ: Mapping[str, str], shell: str) -> list[str]:
    """The lines that set the variables in one shell."""
    if shell == "fish":
        lines = [f"set -gx {name} {_fish_quoted(value)}" for name, value in environ.items()]
        return [*lines, f"set -e {_UNSET}"]
    if shell == "powershell":
        lines = [f"$env:{name} = '{value.replace(chr(39), chr(39) * 2)}'" for name, value in environ.items()]
        return [*lines, f"Remove-Item Env:{_UNSET} -ErrorAction SilentlyContinue"]
    return [*(f"export {name}={shlex.quote(value)}" for name, value in environ.items()), f"unset {_UNSET}"]


def _fish_quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _running(data_dir: Path) -> Mapping[str, str]:
    """The variables of the `up` on a data directory. Raises UserError if none runs there."""
    from tidemill_local.preconditions import is_locked
    from tidemill_local.ready import read_ready_file
    from tidemill_local.settings import running_file

    said = read_ready_file(running_file(data_dir)) if is_locked(data_dir) else None
    if said is None:
        raise UserError(
            f"No `tidemill up` is ready in {data_dir}: start it, or name its data directory with --data-dir."
        )
    environ: Mapping[str, str] = said["environ"]
    return environ


def _agrees(data_dir: Path) -> bool:
    if not sys.stdin.isatty():
        raise UserError("reset asks before it removes anything, and nobody is there to ask: give --yes.")
    return typer.confirm(f"Remove all that `tidemill up` keeps in {data_dir.absolute()}?")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _forwarded() -> None:
    """Never runs: main() hands the AWS CLI its arguments before Typer sees them."""
    raise AssertionError
