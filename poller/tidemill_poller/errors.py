"""Everything the poller raises on purpose, as one tree.

PollerError
├── RequestRejected            the caller's fault; carries AWS's error code and a sentence
│   ├── InvalidParameter          InvalidParameterValueException, 400
│   │   └── NotBuilt                  … because Lambda supports it and Tidemill does not yet
│   ├── MappingConflict           ResourceConflictException, 409
│   ├── MappingInUse              ResourceInUseException, 400
│   └── MappingNotFound           ResourceNotFoundException, 404
├── InvalidPattern            a filter pattern that cannot be compiled
│   └── UnfilterableField         … because Kafka records are not filtered by that field
├── ReadyFileUnwritable       the file or folder of --ready-file
├── InvalidSettings           the environment or the command line; all faults at once
├── StoreError                the mapping store on disk
│   ├── StoreUnreadable           corrupted, foreign, or written by a newer Tidemill
│   ├── StoreUnavailable          locked, read-only or full: may pass
│   └── VersionConflict           another caller changed the mapping first
├── SkipRejected              the record that an operator wants to skip would be lost
├── FunctionLookupFailed      the Lambda API did not answer
├── SourceUnavailable         the Kafka cluster could not be found, reached or used
│   ├── SecretUnreadable          Secrets Manager cannot be reached for the secret
│   │   └── SecretDenied              … or denies it
│   ├── SecretInvalid             the secret is not what its type demands
│   │   └── CertificateInvalid        … because of its certificate or private key
│   ├── LoginFailed               the cluster rejected the credentials
│   ├── AccessDenied              logged in, but without the rights on the topic or the group
│   ├── ClientNotTrusted          the cluster rejected our certificate, or requires one
│   └── ServerNotTrusted          the cluster's certificate could not be verified
└── DestinationUnavailable    a failure record could not be delivered

What a function does to an invocation is never an exception: see retry.Outcome.
"""

from __future__ import annotations

from typing import ClassVar


class PollerError(Exception):
    """The root: catch it only at the edge of a program or a task."""


class RequestRejected(PollerError):
    """A control API call that changed nothing; `code` is the name of AWS's error shape."""

    code: ClassVar[str]


class InvalidParameter(RequestRejected):
    """A field, or a combination of fields, that Lambda does not accept.

    `reason` says more than AWS's text does, for a caller who looks.
    """

    code = "InvalidParameterValueException"

    def __init__(self, text: str, *, reason: str = "") -> None:
        super().__init__(text)
        self.reason = reason


class NotBuilt(InvalidParameter):
    """What Lambda supports and Tidemill does not yet: a `field`, by its name in the API."""

    def __init__(self, field: str) -> None:
        super().__init__(
            f"Tidemill does not support {field} yet and rejects it rather than ignore it:"
            " leave it out, or see docs/parity.md for what is planned."
        )
        self.field = field


class MappingConflict(RequestRejected):
    """The mapping would collide with one that exists."""

    code = "ResourceConflictException"


class MappingInUse(RequestRejected):
    """The mapping is in a transition; the same call may work a moment later."""

    code = "ResourceInUseException"

    def __init__(self, verb: str) -> None:
        super().__init__(f"Cannot {verb} the event source mapping because it is in use.")


class MappingNotFound(RequestRejected):
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


class ReadyFileUnwritable(PollerError):
    """The file of `--ready-file` cannot be written, or its folder not be made."""


class StoreError(PollerError):
    """Something about the store on disk; the text names the file."""


class StoreUnreadable(StoreError):
    """The file is damaged, is no mapping store, or is of an unknown schema version."""


class StoreUnavailable(StoreError):
    """SQLite rejected a read or a write; nothing was changed."""


class VersionConflict(StoreError):
    """`replace` met another version than the one its caller had read, or no mapping at all."""


class SkipRejected(PollerError):
    """A record that an operator wants to skip would be in no destination; the text names the fix."""


class FunctionLookupFailed(PollerError):
    """GetFunctionConfiguration gave no answer about the function; the text says why."""


class SourceUnavailable(PollerError):
    """The event source cannot be used now; the text says why, without secrets.

    `problem` is how LastProcessingResult says it (AWS: with-kafka-troubleshoot), `transition_reason` the
    StateTransitionReason that AWS documents for it, if any: then only a fix of the access helps.
    """

    problem: str = "PROBLEM: Connection error. Please check your event source connection configuration."
    transition_reason: ClassVar[str | None] = None


class SecretUnreadable(SourceUnavailable):
    """Secrets Manager cannot be reached. `rejection` is AWS's answer to a create that names it."""

    problem = (
        "PROBLEM: Connection error. Your event source VPC must be able to connect to Lambda and STS, Secrets"
        " Manager (if event source authentication is required), and the OnFailure Destination (if one is"
        " configured)."
    )

    def __init__(self, secret_id: str, reason: str) -> None:
        super().__init__(f"The secret {secret_id} cannot be read: {reason}")
        self.rejection = (
            f"Cannot access secret manager value {secret_id}. Please ensure the role can perform the"
            " 'secretsmanager:GetSecretValue' action on your broker in IAM."
        )


class SecretDenied(SecretUnreadable):
    """Secrets Manager answered: there is no such secret, or access is denied."""

    transition_reason = "EVENT_SOURCE_AUTHN_ERROR"

    def __init__(self, secret_id: str, reason: str) -> None:
        super().__init__(secret_id, reason)
        self.problem = f"PROBLEM: {self.rejection}"


class SecretInvalid(SourceUnavailable):
    """A secret that was read, and cannot be used: no JSON, keys that are missing."""

    problem = "PROBLEM: SASL authentication failed."
    transition_reason = "ESM_CONFIG_NOT_VALID"


class CertificateInvalid(SecretInvalid):
    """A certificate or key that is missing, malformed, expired, or encrypted as AWS does not support."""

    problem = "PROBLEM: Provided certificate or private key is invalid."


class LoginFailed(SourceUnavailable):
    """SASL: wrong credentials, a mechanism that is off, or no credentials to sign with."""

    problem = "PROBLEM: SASL authentication failed."
    transition_reason = "EVENT_SOURCE_AUTHN_ERROR"


class AccessDenied(SourceUnavailable):
    """The principal has no right on the topic or the consumer group."""

    problem = "PROBLEM: Cluster failed to authorize Lambda."
    transition_reason = "EVENT_SOURCE_AUTHZ_ERROR"


class ClientNotTrusted(SourceUnavailable):
    """TLS: the cluster ended the connection because of our certificate, or because there is none."""

    problem = "PROBLEM: Server failed to authenticate Lambda."
    transition_reason = "EVENT_SOURCE_AUTHN_ERROR"


class ServerNotTrusted(SourceUnavailable):
    """TLS: the cluster's certificate is of an unknown CA, for another host, or expired."""

    problem = "PROBLEM: Lambda failed to authenticate server."
    transition_reason = "EVENT_SOURCE_AUTHN_ERROR"


class DestinationUnavailable(PollerError):
    """The destination did not take the failure record; the text says why, without secrets.

    `retriable` is False when the same call cannot work before somebody fixes something (a missing queue,
    a permission). `unanswered` is True when the record was sent and the destination may have it.
    """

    def __init__(self, reason: str, *, retriable: bool = True, unanswered: bool = False) -> None:
        super().__init__(reason)
        self.retriable = retriable
        self.unanswered = unanswered
