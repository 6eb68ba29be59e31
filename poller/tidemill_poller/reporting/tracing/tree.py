"""One delivery as text: batch, attempts, halves, poison record, destination. Pure.

Reads the JSON of RecentDeliveries, so that a terminal prints what the poller keeps, wherever it runs. Written
to be read at three in the morning: what was lost or stuck comes in words, clean parts take one line, and
attempts that failed alike are counted instead of repeated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

Span: TypeAlias = Mapping[str, Any]

_OK, _FAILED, _RUNNING, _MIXED = "✓", "✗", "…", "·"
_CUT: Final = 100


def render_tree(spans: Sequence[Span]) -> str:
    """The spans of one trace, root first, as a tree of text lines without a newline at the end."""
    children: dict[str | None, list[Span]] = {}
    known = {span["span_id"] for span in spans}
    for span in spans:
        # A parent that was not kept makes its child a root: better shown oddly than not shown.
        parent = span["parent_id"] if span["parent_id"] in known else None
        children.setdefault(parent, []).append(span)
    writer = _Writer(children)
    return "\n".join(line for root in children.get(None, []) for line in writer.tree(root))


class _Writer:
    """Writes one tree; an error that was shown in full once is named by its type from then on."""

    def __init__(self, children: Mapping[str | None, Sequence[Span]]) -> None:
        self._children = children
        self._told: set[tuple[str, str]] = set()

    def tree(self, root: Span) -> list[str]:
        return [_root_line(root), *self._below(root, "")]

    def _below(self, span: Span, indent: str) -> list[str]:
        lines: list[str] = []
        entries = self._entries(span)
        for position, (text, child) in enumerate(entries):
            last = position == len(entries) - 1
            clean = child is not None and self._is_clean(child)
            shown = text.replace(_MIXED, _OK, 1) if clean else text
            lines.append(f"{indent}{'└─ ' if last else '├─ '}{shown}")
            if child is not None and not clean:
                lines.extend(self._below(child, indent + ("   " if last else "│  ")))
        return lines

    def _entries(self, span: Span) -> list[tuple[str, Span | None]]:
        """The lines directly below a span, each with the span to descend into, if any."""
        children = self._children.get(span["span_id"], [])
        entries: list[tuple[str, Span | None]] = []
        for group in _grouped(children):
            if "esm.attempt" in group[0]["attributes"]:
                entries.append((self._attempts_line(group, span), None))
            else:
                [child] = group
                descend = child if "esm.split" in child["attributes"] else None
                entries.append((_line(child, children), descend))
        if _is_waiting(span, children):
            entries.append((_waiting_line(span), None))
        if span["attributes"].get("esm.interrupted"):
            entries.append(("stopped here; the next owner of the partition goes on", None))
        return entries

    def _attempts_line(self, attempts: Sequence[Span], parent: Span) -> str:
        first, last = attempts[0], attempts[-1]
        one, other = first["attributes"]["esm.attempt"], last["attributes"]["esm.attempt"]
        number = f"attempt {one}" if len(attempts) == 1 else f"attempts {one}-{other}"
        parts = [f"{_mark(last)} {number}"]
        if _range(first["attributes"]) != _range(parent["attributes"]):
            parts.append(_range(first["attributes"]))
        parts.append(_took(last) if len(attempts) == 1 else f"{_took(last)} the last")
        error = _error(last)
        if error is not None:
            parts.append(self._reason(error))
            request_id = last["attributes"].get("aws.request_id")
            if request_id and parent["attributes"].get("esm.poison"):
                parts.append(f"(request {request_id})")
        return "  ".join(parts)

    def _reason(self, error: tuple[str, str]) -> str:
        if error in self._told:
            return f"{error[0]} again"
        self._told.add(error)
        return _short(f"{error[0]}: {error[1]}" if error[1] else error[0])

    def _is_clean(self, span: Span) -> bool:
        """One attempt that worked, and nothing else: the line of the part says it all."""
        below = self._children.get(span["span_id"], [])
        return len(below) == 1 and _mark(below[0]) == _OK and "esm.attempt" in below[0]["attributes"]


def _grouped(children: Sequence[Span]) -> list[list[Span]]:
    """Attempts in a row that failed alike, together; everything else alone."""
    groups: list[list[Span]] = []
    for child in children:
        if groups and _alike(groups[-1][-1], child):
            groups[-1].append(child)
        else:
            groups.append([child])
    return groups


def _alike(one: Span, other: Span) -> bool:
    both_attempts = "esm.attempt" in one["attributes"] and "esm.attempt" in other["attributes"]
    return both_attempts and _error(one) is not None and _error(one) == _error(other)


def _error(span: Span) -> tuple[str, str] | None:
    kind = span["attributes"].get("error.type")
    return (str(kind), str(span["status_message"] or "")) if kind is not None else None


def _root_line(root: Span) -> str:
    about = root["attributes"]
    partition = f"{about.get('messaging.destination.name')}-{about.get('messaging.destination.partition.id')}"
    records = about.get("messaging.batch.message_count", 0)
    facts = [
        f"{partition} {_range(about)}",
        _count(records, "record"),
        _size(about.get("esm.payload.bytes", 0)),
        f"closed by {about.get('esm.window.closed_by')}",
        f"to {about.get('faas.invoked_name')}",
    ]
    if about.get("esm.filtered"):
        facts.insert(2, f"{about['esm.filtered']} filtered out")
    if about.get("esm.trace.part"):
        facts.append(f"part {about['esm.trace.part']} of a long delivery")
    return f"{_mark(root)} {', '.join(facts)}, {_took(root)}{_verdict(root)}"


def _verdict(root: Span) -> str:
    about = root["attributes"]
    if about.get("esm.dropped"):
        return f": {_count(about['esm.dropped'], 'record')} DROPPED, in no destination"
    if about.get("esm.continued"):
        return ": goes on in a later trace"
    if about.get("esm.interrupted"):
        return f": interrupted ({about['esm.interrupted']})"
    if about.get("esm.sent_to_destination"):
        return f": {_count(about['esm.sent_to_destination'], 'failure record')} sent"
    if root["end_ns"] is None:
        return ": running"
    return ": delivered after retries" if about.get("esm.retried") else ": delivered"


def _line(span: Span, siblings: Sequence[Span]) -> str:
    about = span["attributes"]
    if "esm.split" in about:
        return _split_line(span, siblings)
    if "esm.condition" in about:
        outcome = _error(span)
        ending = "" if outcome is None else f"  NOT sent: {_short(': '.join(outcome))}"
        destination = about.get("esm.destination")
        return f"{_mark(span)} {about['esm.condition']} -> {destination}  {_took(span)}{ending}"
    if "esm.offset.committed" in about:
        outcome = _error(span)
        ending = "" if outcome is None else f"  {_short(': '.join(outcome))}"
        return f"{_mark(span)} commit {about['esm.offset.committed']}  {_took(span)}{ending}"
    return f"{_mark(span)} {span['name']}  {_took(span)}"


def _split_line(span: Span, siblings: Sequence[Span]) -> str:
    about = span["attributes"]
    halves = [s for s in siblings if s["attributes"].get("esm.split") == "bisect"]
    kind = "half" if about["esm.split"] == "bisect" and len(halves) > 1 else "rest"
    records = about["esm.offset.last"] - about["esm.offset.first"] + 1
    text = f"{_split_mark(span)} {kind} {_range(about)}  {_took(span)}"
    if about.get("esm.poison"):
        text += "  POISON" if records == 1 else "  poison in here"
    if about.get("esm.dropped"):
        text += f"  {_count(about['esm.dropped'], 'record')} DROPPED"
    return text


def _split_mark(span: Span) -> str:
    bad = span["attributes"].get("esm.poison") or span["attributes"].get("esm.dropped")
    # A part that was split again is neither good nor bad: the lines below it tell.
    return _FAILED if bad else _mark(span, settled=_MIXED)


def _mark(span: Span, settled: str = _OK) -> str:
    if span["end_ns"] is None:
        return _RUNNING
    return _FAILED if span["status"] == "ERROR" or span["attributes"].get("esm.interrupted") else settled


def _is_waiting(span: Span, children: Sequence[Span]) -> bool:
    """A retry was scheduled and no later attempt has begun."""
    if span["end_ns"] is not None or not span["events"]:
        return False
    return all(child["start_ns"] <= span["events"][-1]["time_ns"] for child in children)


def _waiting_line(span: Span) -> str:
    about = span["events"][-1]["attributes"]
    attempt, delay_s = about.get("esm.attempt"), about.get("esm.delay_s", 0)
    return f"{_RUNNING} attempt {attempt} follows {delay_s:.1f} s after that"


def _range(about: Mapping[str, Any]) -> str:
    first, last = about.get("esm.offset.first"), about.get("esm.offset.last")
    return f"[{first}]" if first == last else f"[{first}-{last}]"


def _took(span: Span) -> str:
    if span["end_ns"] is None:
        return "still running"
    millis = (span["end_ns"] - span["start_ns"]) / 1e6
    if millis < 1000:  # noqa: PLR2004 - a second
        return f"{millis:.0f} ms" if millis >= 10 else f"{millis:.1f} ms"  # noqa: PLR2004 - two digits are enough
    return f"{millis / 1000:.1f} s" if millis < 120_000 else f"{millis / 60_000:.1f} min"  # noqa: PLR2004 - 2 min


def _size(count: int) -> str:
    if count < 1000:  # noqa: PLR2004 - a kilobyte
        return f"{count} B"
    return f"{count / 1000:.1f} kB" if count < 1_000_000 else f"{count / 1_000_000:.1f} MB"  # noqa: PLR2004 - the same


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _CUT else line[: _CUT - 1] + "…"
