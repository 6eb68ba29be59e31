"""Coordinators: state machines behind the group APIs. Pure: no I/O, no clock, `now_ms` is an argument.

A handler reads the state and returns what would change (a `Step`: records for the log, the group as it
becomes, answers to those who wait) without changing anything. The shell in `tidemill_broker.apis` appends the
records first and then calls `apply`; loading at start replays the same records. So nothing is ever
answered that is not in the log, and a failed append leaves the state as it was.
"""
