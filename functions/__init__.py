"""The local function runtime; what user code imports of it are the names below."""

from functions.trigger import KafkaTrigger, function

__all__ = ["KafkaTrigger", "function"]
