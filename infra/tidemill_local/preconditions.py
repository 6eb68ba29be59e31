"""Owns what must hold before `up` starts anything: the data directory is ours, ports are free, AWS answers.

Each rejection is an UpError whose sentence names the flag. Called by the launcher.
"""

import asyncio
import contextlib
import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tidemill_local.errors import AwsUnreachable, DataDirInUse, DataDirUnusable, PortInUse

_CONNECT_TIMEOUT_S: Final = 5.0
# LocalStack loads a service at its first call, which takes some seconds.
_ANSWER_TIMEOUT_S: Final = 30.0
_REPLY_BYTES_MAX: Final = 64 * 1024
_WHO_CALLS: Final = {"Action": "GetCallerIdentity", "Version": "2011-06-15"}
# Emulators find the service by the scope; none checks the signature.
_UNSIGNED: Final = (
    "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/sts/aws4_request, SignedHeaders=host, Signature=0"
)
_STS_MARKS: Final = (b"GetCallerIdentityResponse", b"<ErrorResponse", b"GetCallerIdentityResult")


@contextlib.contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """Hold the data directory; the lock ends with this process, however it ends.

    Raises DataDirUnusable if it cannot be written, and DataDirInUse if another `up` holds it.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock_file = (data_dir / "up.lock").open("a+")
    except OSError as error:
        raise _unusable(data_dir, error) from None
    with lock_file as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise DataDirInUse(
                f"{data_dir} is in use by another `tidemill up` (pid {lock.read().strip()}): "
                "stop it, or choose another directory with --data-dir."
            ) from None
        try:
            lock.truncate(0)
            os.write(
                lock.fileno(), str(os.getpid()).encode()
            )  # at once: a buffer would be tried again at the end
        except OSError as error:
            raise _unusable(data_dir, error) from None
        yield


def _unusable(data_dir: Path, error: OSError) -> DataDirUnusable:
    return DataDirUnusable(
        f"{data_dir} cannot be written ({error.strerror}): choose another directory with --data-dir."
    )


def is_locked(data_dir: Path) -> bool:
    """Whether an `up` holds the data directory."""
    try:
        lock_file = (data_dir / "up.lock").open()
    except OSError:
        return False
    with lock_file as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextlib.contextmanager
def gateway_socket(host: str, port: int) -> Iterator[socket.socket]:
    """Give the one endpoint's socket: the launcher's own, so that the port outlives the gateway's process.

    Raises PortInUse if it cannot be bound.
    """
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _bind(listener, host, port, "--port")
        listener.listen(socket.SOMAXCONN)
        yield listener


def require_free_port(host: str, port: int, flag: str) -> None:
    """Say it in our words, with our flag, before the broker says it in its log. Raises PortInUse if taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _bind(probe, host, port, flag)


async def require_aws(endpoint_url: str) -> None:
    """Ask another AWS who calls. Raises AwsUnreachable if nothing answers, or something that is no AWS."""
    parts = _parts(endpoint_url)
    try:
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            _, writer = await asyncio.open_connection(*parts)
    except (OSError, TimeoutError) as error:
        reason = "timeout" if isinstance(error, TimeoutError) else error.strerror or type(error).__name__
        raise AwsUnreachable(
            f"Nothing answers at {endpoint_url} ({reason}): start that AWS first, "
            "or leave --aws-endpoint-url out for the embedded one."
        ) from None
    writer.close()
    why_not = await _why_no_aws(endpoint_url)
    if why_not is not None:
        raise AwsUnreachable(
            f"What listens at {endpoint_url} is no AWS ({why_not}): name one, "
            "or leave --aws-endpoint-url out for the embedded one."
        )


def _parts(endpoint_url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(endpoint_url)
        host, port = parts.hostname, parts.port or {"http": 80, "https": 443}[parts.scheme]
    except (KeyError, ValueError):
        host, port = None, 0
    if host is None:
        raise AwsUnreachable(
            f"--aws-endpoint-url takes a URL such as http://127.0.0.1:4566, not {endpoint_url!r}."
        )
    return host, port


async def _why_no_aws(endpoint_url: str) -> str | None:
    """Call STS, which every AWS has and which denies in its own words; None if it answers so."""
    import aiohttp  # noqa: PLC0415 - only with another AWS

    timeout = aiohttp.ClientTimeout(total=_ANSWER_TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(endpoint_url, data=_WHO_CALLS, headers={"Authorization": _UNSIGNED}) as reply,
        ):
            said = await reply.content.read(_REPLY_BYTES_MAX)
    except TimeoutError:
        return f"no answer within {_ANSWER_TIMEOUT_S:g} s"
    except aiohttp.ClientError as error:
        return type(error).__name__
    is_aws = any(mark in said for mark in _STS_MARKS)
    return None if is_aws else f"HTTP status {reply.status} for sts:GetCallerIdentity"


def _bind(listener: socket.socket, host: str, port: int, flag: str) -> None:
    try:
        listener.bind((host, port))
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise PortInUse(f"{host} is no address of this machine: choose another with --host.") from None
        raise PortInUse(
            f"Port {port} cannot be bound ({error.strerror}): stop what listens there, or choose another "
            f"with {flag} (0 takes any free one)."
        ) from None
