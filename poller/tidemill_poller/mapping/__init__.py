"""The event source mapping (ESM): its fields, defaults, states, validation and replies. Pure."""

from tidemill_poller.mapping.model import (
    DEFAULT_WINDOW_MS,
    NO_RECORDS_PROCESSED,
    RETRIES_WITH_DESTINATION,
    UNLIMITED,
    USER_INITIATED,
    Mapping,
    MskSource,
    Provisioned,
    SelfManagedSource,
    SourceAccess,
    StartingPosition,
    State,
)

__all__ = [
    "DEFAULT_WINDOW_MS",
    "NO_RECORDS_PROCESSED",
    "RETRIES_WITH_DESTINATION",
    "UNLIMITED",
    "USER_INITIATED",
    "Mapping",
    "MskSource",
    "Provisioned",
    "SelfManagedSource",
    "SourceAccess",
    "StartingPosition",
    "State",
]
