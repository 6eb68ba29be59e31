"""The launcher's exceptions; each message is one sentence that names the fix.

UpError
├── AccessFailed
├── AwsUnreachable
├── DataDirInUse
├── DataDirUnusable
├── PortInUse
├── ProgramFailed
└── ReadyFileUnwritable

StackError
├── EngineChanged
├── ResourceFailed
└── TemplateTooLarge

LoopHeld
"""


class UpError(Exception):
    """Why `tidemill up` cannot start."""


class AccessFailed(UpError):
    """What `--auth` needs cannot be made: certificates, secrets, users."""


class AwsUnreachable(UpError):
    """Nothing answers at ``--aws-endpoint-url``."""


class DataDirInUse(UpError):
    """Another `up` holds the data directory."""


class DataDirUnusable(UpError):
    """The data directory cannot be made or written."""


class PortInUse(UpError):
    """An address or port that was requested cannot be bound."""


class ProgramFailed(UpError):
    """A program ended, or said nothing for too long, before it was ready for the first time."""


class ReadyFileUnwritable(UpError):
    """The folder of ``--ready-file`` cannot be made or written."""


class StackError(Exception):
    """Why a stack's resource cannot be made, or none can."""


class EngineChanged(StackError):
    """The embedded AWS's CloudFormation is not the one that Tidemill's resource types are made for."""


class ResourceFailed(StackError):
    """A resource cannot be made, changed or deleted; the message is the reason in the stack's events."""


class TemplateTooLarge(StackError):
    """A template has or makes more values or levels than one may."""


class LoopHeld(Exception):
    """A handler of the embedded AWS let no other request be served for too long."""
