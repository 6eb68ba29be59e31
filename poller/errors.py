"""Everything the poller raises on purpose, as one tree.

PollerError
├── RequestRefused            the caller's fault; carries AWS's error code and a sentence
│   ├── InvalidParameter          InvalidParameterValueException, 400
│   ├── MappingConflict           ResourceConflictException, 409
│   ├── MappingInUse              ResourceInUseException, 400
│   └── MappingNotFound           ResourceNotFoundException, 404
├── InvalidPattern            a filter pattern that cannot be compiled
│   └── UnfilterableField         … because Kafka records are not filtered by that field
├── InvalidSettings           the environment or the command line; all faults at once
├── StoreError                the mapping store on disk
│   ├── StoreUnreadable           corrupted, foreign, or written by a newer Tidemill
│   ├── StoreUnavailable          locked, read-only or full: may pass
│   └── VersionConflict           somebody else changed the mapping first
├── FunctionLookupFailed      the Lambda API could not be asked
├── SourceUnavailable         the Kafka cluster could not be found, reached or entered
└── DestinationUnavailable    a failure record could not be delivered

What a function does to an invocation is never an exception: see retry.Outcome.
"""

from __future__ import annotations

from typing import ClassVar


class PollerError(Exception):
    """The root: catch it only at the edge of a program or a task."""


class RequestRefused(PollerError):
    """A control API call that changed nothing; `code` is the name of AWS's error shape."""

    code: ClassVar[str]


class InvalidParameter(RequestRefused):
    """A field, or a combination of fields, that Lambda does not accept."""

    code = "InvalidParameterValueException"


class MappingConflict(RequestRefused):
    """The mapping would collide with one that exists."""

    code = "ResourceConflictException"


class MappingInUse(RequestRefused):
    """The mapping is in a transition; the same call may work a moment later."""

    code = "ResourceInUseException"

    def __init__(self, verb: str) -> None:
        super().__init__(f"Cannot {verb} the event source mapping because it is in use.")


class MappingNotFound(RequestRefused):
    """No mapping has this UUID."""

    code = "ResourceNotFoundException"

    def __init__(self) -> None:
        super().__init__("The resource you requested does not exist.")


class InvalidPattern(PollerError):
    """A filter pattern that is not JSON, not a pattern, or uses an operator that is not allowed."""


class UnfilterableField(InvalidPattern):
    """A sound pattern about something other than a record's value."""


class InvalidSettings(PollerError):
    """One sentence a fault, joined by newlines."""


class StoreError(PollerError):
    """Something about the store on disk; the text names the file."""


class StoreUnreadable(StoreError):
    """The file is damaged, is no mapping store, or is of an unknown schema version."""


class StoreUnavailable(StoreError):
    """SQLite refused a read or a write; nothing was changed."""


class VersionConflict(StoreError):
    """`replace` met another version than the one its caller had read, or no mapping at all."""


class FunctionLookupFailed(PollerError):
    """GetFunctionConfiguration gave no answer about the function; the text says why."""


class SourceUnavailable(PollerError):
    """The event source cannot be used now; the text says why, without secrets."""


class DestinationUnavailable(PollerError):
    """The destination did not take the failure record; the text says why, without secrets.

    `retriable` is False when the same call cannot work before somebody mends something (a missing queue,
    a permission).
    """

    def __init__(self, reason: str, *, retriable: bool = True) -> None:
        super().__init__(reason)
        self.retriable = retriable
