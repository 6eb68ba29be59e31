"""The two ways to reject a field as a whole: AWS does not know it for Kafka, or Tidemill has not built it.

See docs/decisions/0503.
"""

from __future__ import annotations

from typing import NoReturn

from tidemill_poller.errors import InvalidParameter, NotBuilt


def camel(field: str) -> str:
    """`BatchSize` as AWS's error texts spell it: `batchSize`."""
    return field[0].lower() + field[1:]


def unsupported(field: str) -> NoReturn:
    """Reject a field with AWS's own text for one that does not fit the mapping.

    Always raises InvalidParameter.
    """
    raise InvalidParameter(f"Unsupported '{camel(field)}' parameter for given event source mapping type.")


def not_built(field: str) -> NoReturn:
    """Reject what Lambda supports and Tidemill does not yet, rather than accept and ignore it.

    Always raises NotBuilt; it names the field and the document that lists them.
    """
    raise NotBuilt(field)
