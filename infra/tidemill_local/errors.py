"""The launcher's exceptions; each message is one sentence that names the mend.

UpError
├── AccessFailed
├── DataDirInUse
├── DataDirUnusable
├── PortInUse
└── ProgramFailed
"""


class UpError(Exception):
    """Why `tidemill up` cannot start."""


class AccessFailed(UpError):
    """What `--auth` needs cannot be made: certificates, secrets, users."""


class DataDirInUse(UpError):
    """Another `up` holds the data directory."""


class DataDirUnusable(UpError):
    """The data directory cannot be made or written."""


class PortInUse(UpError):
    """Somebody else listens on a port that was asked for."""


class ProgramFailed(UpError):
    """A program ended, or said nothing for too long, before it was ready for the first time."""
