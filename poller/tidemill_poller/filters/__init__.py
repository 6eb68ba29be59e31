"""FilterCriteria: which records of a topic a mapping wants. Pure."""

from tidemill_poller.errors import InvalidPattern
from tidemill_poller.filters.compiled import Filter, compile_filters, decode

__all__ = ["Filter", "InvalidPattern", "compile_filters", "decode"]
