"""The function runtime's exceptions; the API rooms turn them into Lambda's errors.

    FunctionsError
    ├── InvalidSettings      the program cannot start with what it was given
    ├── InvalidFunction      a function's configuration or code that cannot be run here
    │   └── InvalidArchive   a zip that is broken or not safe to unpack
    ├── FunctionNotFound
    ├── FunctionExists
    ├── AwsUnavailable       the AWS in use did not do what a request asked for
    └── TooManyInvocations   no environment is free and no more may be started
        └── ReservedConcurrencyReached   as many run as the function has reserved

Whatever a handler does wrong is no exception here: it is an ordinary `Result` (environment.py).
"""


class FunctionsError(Exception):
    """The root of the tree above."""


class InvalidSettings(FunctionsError):
    """Settings that the program cannot start with; the message names each of them."""


class InvalidFunction(FunctionsError):
    """A function that cannot be run here; the message is one sentence that names the fix."""


class InvalidArchive(InvalidFunction):
    """A zip that is broken or not safe to unpack; nothing of it is left on disk."""


class FunctionNotFound(FunctionsError):
    """No function has this name; the message is its ARN."""


class FunctionExists(FunctionsError):
    """The name is taken; the message is the name."""


class AwsUnavailable(FunctionsError):
    """AWS cannot be reached, or rejected a request; the message is its reason."""

    def __init__(self, message: str, *, code: str, is_temporary: bool) -> None:
        super().__init__(message)
        self.code = code  # AWS's error code
        self.is_temporary = is_temporary  # the same request may succeed later


class TooManyInvocations(FunctionsError):
    """All environments are busy and no more may be started."""


class ReservedConcurrencyReached(TooManyInvocations):
    """As many invocations of the function run as it has reserved."""
