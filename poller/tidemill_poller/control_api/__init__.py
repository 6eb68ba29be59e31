"""Lambda's event source mapping API over HTTP: validates a call, writes the store, answers; nothing else."""

from tidemill_poller.control_api.functions import FunctionLookup, FunctionView, LambdaFunctions
from tidemill_poller.control_api.operations import ControlApi, application

__all__ = ["ControlApi", "FunctionLookup", "FunctionView", "LambdaFunctions", "application"]
