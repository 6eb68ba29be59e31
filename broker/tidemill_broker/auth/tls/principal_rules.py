"""ssl.principal.mapping.rules: how a certificate's name becomes a user's.

The semantics are those of org.apache.kafka.common.security.ssl.SslPrincipalMapper (KIP-371). Pure. Regular
expressions are Python's: what Java spells otherwise is rejected at the start, not misread.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from tidemill_broker.errors import BrokerError

# Kafka's own patterns: RULE_PATTERN, RULE_SPLITTER, BACK_REFERENCE_PATTERN.
_RULE: Final = r"(DEFAULT)|RULE:((\\.|[^\\/])*)/((\\.|[^\\/])*)/([LU]?).*?|(.*?)"
_SPLITTER: Final = re.compile(rf"\s*({_RULE})\s*(,\s*|$)", re.DOTALL)
_PARSER: Final = re.compile(_RULE)
_REFERENCE: Final = re.compile(r"\$([0-9]+)", re.ASCII)
# Java's ${name} and a $ alone: the first is not done here, the second is an error there too.
_STRAY_DOLLAR: Final = re.compile(r"(?<!\\)(?:\\\\)*\$(?![0-9])", re.ASCII)


class NoRuleApplies(BrokerError):
    """No rule matches the name: whoever has this certificate may not come in (Kafka: NoMatchingRule)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """A pattern for the whole name; None is DEFAULT, which keeps the name."""

    pattern: re.Pattern[str] | None
    replacement: str = ""
    case: str = ""

    def apply(self, name: str) -> str | None:
        if self.pattern is None:
            return name
        if self.pattern.fullmatch(name) is None:
            return None
        # Java: String.replaceAll, so that a pattern that matches the empty end too replaces twice.
        result = self.pattern.sub(lambda match: _expand(self.replacement, match), name)
        return {"L": result.lower(), "U": result.upper()}.get(self.case, result)


class PrincipalRules:
    """The rules in their order. Raises ValueError for text that is no list of rules."""

    def __init__(self, text: str) -> None:
        self._rules = tuple(_parse(_split(text.strip())))

    def user(self, name: str) -> str:
        """The user's name for a certificate's. Raises NoRuleApplies."""
        for rule in self._rules:
            user = rule.apply(name)
            if user:
                return user
            if user is not None:
                raise NoRuleApplies("ssl.principal.mapping.rules leave nothing of the certificate's name")
        raise NoRuleApplies("no rule of ssl.principal.mapping.rules matches the certificate's name")


def _split(text: str) -> Iterable[str]:
    return (match[1] for match in _SPLITTER.finditer(text))


def _parse(rules: Iterable[str]) -> Iterable[_Rule]:
    for rule in rules:
        match = _PARSER.match(rule)
        if match is None or match.end() != len(rule):
            raise ValueError(f"{rule!r} is no rule: write DEFAULT or RULE:regex/replacement/[L|U]")
        if match[1] is not None:
            yield _Rule(pattern=None)
        elif match[2] is not None:
            if _STRAY_DOLLAR.search(match[4]):
                raise ValueError(f"{rule!r}: a $ in a replacement is $1 to $9 or \\$")
            yield _Rule(pattern=_compile(match[2]), replacement=match[4], case=match[6])


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern, re.ASCII)  # as Java's classes are
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression of Python's: {error}") from None


def _expand(replacement: str, match: re.Match[str]) -> str:
    """As Java's appendReplacement: `$n` is a group, what is escaped stays; so does a group too many."""
    parts: list[str] = []
    at = 0
    while at < len(replacement):
        reference = _REFERENCE.match(replacement, at)
        if replacement[at] == "\\" and at + 1 < len(replacement):
            parts.append(replacement[at + 1])
            at += 2
        elif reference is not None:
            digits = _group_digits(reference[1], match.re.groups)
            parts.append((match[int(digits)] or "") if digits else f"${reference[1]}")
            at = at + 1 + len(digits) if digits else reference.end()
        else:
            parts.append(replacement[at])
            at += 1
    return "".join(parts)


def _group_digits(digits: str, groups: int) -> str:
    """As many digits as name a group that is there (Java reads greedily); "" if not even the first does."""
    if int(digits[0]) > groups:
        return ""
    taken = digits[0]
    for digit in digits[1:]:
        if int(taken + digit) > groups:
            break
        taken += digit
    return taken
