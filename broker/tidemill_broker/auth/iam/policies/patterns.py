"""IAM's wildcards `*` and `?`, matched in linear time whatever the pattern, and policy variables `${…}`.

Authority: IAM User Guide, "Resource" (a wildcard stays within its colon-separated segment, but a `*` that
ends a segment may run on), "Condition operators" (ARNs go segment by segment), "Variables and tags".
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from tidemill_broker.auth.iam.policies.errors import PolicyError

Context = Mapping[str, Sequence[str]]

_SEGMENTS_BEFORE_RESOURCE: Final = 5  # arn:partition:service:region:account:resource, which may hold colons
_ESCAPES: Final = frozenset("*?$")  # ${*} ${?} ${$}


class Style(Enum):
    """What a wildcard may run over."""

    TEXT = "text"  # anything
    RESOURCE = "resource"  # an ARN's segment, and further where a `*` ends it
    ARN = "arn"  # an ARN's segment


@dataclass(frozen=True, slots=True)
class _Wild:
    many: bool
    colons: bool  # whether it matches a colon too


_Token = str | _Wild


@dataclass(frozen=True, slots=True)
class _Variable:
    key: str  # in lower case
    default: str | None


# A stretch of text, and whether its wildcards count.
_Part = tuple[str, bool] | _Variable


class Glob:
    """A pattern without variables: all its states advance together over the text, as bits of one number.

    There is no backtracking, so no pattern is slow: the work is the text's length, times the pattern's
    length in machine words.
    """

    __slots__ = (
        "_advance",
        "_any",
        "_colon_loops",
        "_final",
        "_loops",
        "_prefix",
        "_stars",
        "_trailing_star",
    )

    def __init__(self, tokens: Sequence[_Token]) -> None:
        split = next((at for at, token in enumerate(tokens) if not isinstance(token, str)), len(tokens))
        self._prefix = "".join(token for token in tokens[:split] if isinstance(token, str))
        rest = tokens[split:]
        self._trailing_star = rest == [_Wild(many=True, colons=True)]
        self._final = 1 << len(rest)
        self._stars = _bits(isinstance(token, _Wild) and token.many for token in rest)
        self._loops = self._stars
        self._colon_loops = _bits(isinstance(token, _Wild) and token.many and token.colons for token in rest)
        self._any = _bits(isinstance(token, _Wild) and not token.many for token in rest)
        colons = _bits(isinstance(token, _Wild) and not token.many and token.colons for token in rest)
        self._advance = {":": colons | _bits(each == ":" for each in rest)}
        for char in {token for token in rest if isinstance(token, str)} - {":"}:
            self._advance[char] = self._any | _bits(token == char for token in rest)

    def matches(self, text: str) -> bool:
        """Tell whether the whole text is matched."""
        if self._final == 1:
            return text == self._prefix
        if not text.startswith(self._prefix):
            return False
        return self._trailing_star or self._run(text[len(self._prefix) :])

    def _run(self, text: str) -> bool:
        advance, anything, stars = self._advance, self._any, self._stars
        states = 1 | (1 & stars) << 1
        for char in text:
            loops = self._colon_loops if char == ":" else self._loops
            moved = (states & advance.get(char, anything)) << 1 | states & loops
            states = moved | (moved & stars) << 1
            if not states:
                return False
        return bool(states & self._final)


class Pattern:
    """Text of a policy in which wildcards count and, if `variables`, `${key}` stands for a request's value.

    Compiled here unless it has variables; their values are taken literally, whatever they hold. Raises
    PolicyError for a variable that is not closed or not named.
    """

    __slots__ = ("_glob", "_ignore_case", "_parts", "_style", "keys")

    def __init__(self, text: str, style: Style, *, variables: bool, ignore_case: bool = False) -> None:
        self._style = style
        self._ignore_case = ignore_case
        self._parts = _parts(text, variables=variables)
        self.keys = frozenset(part.key for part in self._parts if isinstance(part, _Variable))
        self._glob = None if self.keys else self._compile(self._parts)

    def matches(self, text: str, context: Context) -> bool:
        """Tell whether the whole text is matched; never where a variable has no value in the request."""
        glob = self._glob or self._resolve(context)
        return glob is not None and glob.matches(text.lower() if self._ignore_case else text)

    def _resolve(self, context: Context) -> Glob | None:
        resolved = [_value(part, context) for part in self._parts]
        known = [part for part in resolved if part is not None]
        return self._compile(known) if len(known) == len(resolved) else None

    def _compile(self, parts: Sequence[_Part]) -> Glob:
        chars = [
            (char.lower() if self._ignore_case else char, raw)
            for part in parts
            if not isinstance(part, _Variable)
            for text, raw in (part,)
            for char in text
        ]
        return Glob(list(_tokens(chars, self._style)))


class Template:
    """Text of a policy in which wildcards do not count, only variables and escapes."""

    __slots__ = ("_parts", "keys")

    def __init__(self, text: str, *, variables: bool) -> None:
        self._parts = _parts(text, variables=variables)
        self.keys = frozenset(part.key for part in self._parts if isinstance(part, _Variable))

    def render(self, context: Context) -> str | None:
        """Put the request's values in; None where one is missing."""
        texts = []
        for part in self._parts:
            value = _value(part, context)
            if value is None:
                return None
            texts.append(value[0])
        return "".join(texts)


def _bits(flags: Iterator[bool]) -> int:
    return sum(1 << at for at, flag in enumerate(flags) if flag)


def _parts(text: str, *, variables: bool) -> list[_Part]:
    if not variables:
        return [(text, True)]
    parts: list[_Part] = []
    rest = text
    while rest:
        before, opened, after = rest.partition("${")
        parts.append((before, True))
        if not opened:
            break
        inside, closed, rest = after.partition("}")
        if not closed or not inside.strip():
            raise PolicyError(f"{text!r} has a variable that is not closed or has no name; write ${{key}}")
        parts.append((inside, False) if inside in _ESCAPES else _variable(inside))
    return parts


def _variable(inside: str) -> _Variable:
    """Read `key` or `key, 'default'`."""
    key, comma, default = inside.partition(",")
    if not comma:
        return _Variable(key.strip().lower(), None)
    default = default.strip()
    if len(default) < len("''") or not (default[0] == default[-1] == "'"):
        raise PolicyError(f"the default of variable ${{{inside}}} is not in single quotes; quote it")
    return _Variable(key.strip().lower(), default[1:-1])


def _value(part: _Part, context: Context) -> tuple[str, bool] | None:
    """Give a part's text; None for a variable that the request has no value, or more than one, for."""
    if not isinstance(part, _Variable):
        return part
    values = context.get(part.key, ())
    if len(values) == 1:
        return values[0], False
    return None if part.default is None else (part.default, False)


def _tokens(chars: Sequence[tuple[str, bool]], style: Style) -> Iterator[_Token]:
    """Turn characters into tokens, each run of stars into one: no star follows another in a Glob."""
    colons = 0
    star: _Wild | None = None
    for at, (char, raw) in enumerate(chars):
        free = style is Style.TEXT or colons >= _SEGMENTS_BEFORE_RESOURCE
        if raw and char == "*":
            ends = at + 1 == len(chars) or (style is Style.RESOURCE and chars[at + 1][0] == ":")
            star = _Wild(many=True, colons=free or ends or (star is not None and star.colons))
            continue
        if star is not None:
            yield star
            star = None
        colons += char == ":"
        yield _Wild(many=False, colons=free) if raw and char == "?" else char
    if star is not None:
        yield star
