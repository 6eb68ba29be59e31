"""Owns what becomes of stacks that were at work when their process ended: they have failed, with a reason.

No thread goes on with them. A stack that stayed IN_PROGRESS could be neither updated nor deleted.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

_REASON: Final = "The embedded AWS ended before this was done. Delete the stack, or update it again."
# What AWS calls the failure of each kind of work; from these a stack can be deleted, or rolled back again.
_FAILED: Final[Mapping[str, str]] = {
    "CREATE_IN_PROGRESS": "CREATE_FAILED",
    "ROLLBACK_IN_PROGRESS": "ROLLBACK_FAILED",
    "DELETE_IN_PROGRESS": "DELETE_FAILED",
    "UPDATE_IN_PROGRESS": "UPDATE_FAILED",
    "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS": "UPDATE_COMPLETE",
    "UPDATE_ROLLBACK_IN_PROGRESS": "UPDATE_ROLLBACK_FAILED",
    "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS": "UPDATE_ROLLBACK_COMPLETE",
}


def end_stack(stack: dict[str, Any], add_event: Callable[..., None]) -> bool:
    """Mark a stack that is in progress as failed; False if it is not in progress."""
    status = _FAILED.get(stack.get("StackStatus", ""))
    if status is None:
        return False
    stack["StackStatus"], stack["StackStatusReason"] = status, _REASON
    name, stack_id = stack.get("StackName", ""), stack.get("StackId", "")
    add_event(stack_id, name, name, "AWS::CloudFormation::Stack", status, _REASON, stack_id)
    return True
