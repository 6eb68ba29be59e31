"""Owns the rejection of functions and mappings in moto's stacks, which moto would report made.

With moto, nothing of a stack reaches Tidemill's programs: see docs/decisions/0806.
"""

from collections.abc import Callable
from typing import Any, Final

from tidemill_local.stacks.table import OWN_PREFIXES

_REJECTED: Final = (*OWN_PREFIXES, "AWS::Serverless::")


def reject_own_types() -> None:
    """Let moto's CloudFormation reject the types that Tidemill's programs make."""
    from moto.cloudformation import parsing  # noqa: PLC0415 - after the account id is set
    from moto.cloudformation.exceptions import ValidationError  # noqa: PLC0415 - as above

    class_of: Callable[[str], Any] = parsing.resource_class_from_type

    def class_or_rejection(resource_type: str) -> Any:
        if resource_type.startswith(_REJECTED):
            raise ValidationError(
                message=f"Unrecognized resource types: [{resource_type}]. Stacks make functions and mappings "
                "with the embedded AWS ministack only: start `tidemill up` without --aws moto and "
                "without --auth iam."
            )
        return class_of(resource_type)

    parsing.resource_class_from_type = class_or_rejection
