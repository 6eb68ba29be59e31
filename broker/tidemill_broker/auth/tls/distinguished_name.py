"""A certificate's subject as Java spells it: X500Principal.getName(), which is what Kafka makes users of.

RFC 2253 with Java's own choices (sun.security.x509.AVA). Pure: DER in, text out. The certificate has been
verified by OpenSSL already; what is still no Name is a ValueError.

See docs/decisions/0902.
"""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

SEQUENCE, SET, OBJECT_IDENTIFIER, VERSION = 0x30, 0x31, 0x06, 0xA0
# Java: AVA.isDerString. The numbers are ASN.1's universal tags.
_STRINGS: Final = frozenset({12, 19, 20, 22, 27, 30})  # UTF8, Printable, T61, IA5, General, BMP
# Java: AVAKeyword, those that RFC 2253 knows; every other type is written in digits.
_KEYWORDS: Final = {
    "2.5.4.3": "CN",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "STREET",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
}
_ESCAPED: Final = ',=+<>#;"\\'
_BLANKS: Final = " \r"
_LONG_FORM: Final = 0x80
_LENGTH_BYTES_MAX: Final = 4


class _Value(NamedTuple):
    """One DER value: its tag, its content, and all of it."""

    tag: int
    content: bytes
    whole: bytes


def subject_of(certificate: bytes) -> bytes:
    """The DER of an X.509 certificate's subject. Raises ValueError."""
    whole = _only(certificate, SEQUENCE)
    fields = list(_values(next(_values(whole), _Value(0, b"", b"")).content))
    # version (there unless it is 1), serial number, signature, issuer, validity, subject: RFC 5280, 4.1.
    at = 5 if fields and fields[0].tag == VERSION else 4
    if len(fields) <= at or fields[at].tag != SEQUENCE:
        raise ValueError("no certificate with a subject")
    return fields[at].whole


def spell_name(name: bytes) -> str:
    """Spell the DER of a Name as Java does: the last part first, no spaces. Raises ValueError."""
    parts = [_spell_part(part) for part in _values(_only(name, SEQUENCE))]
    return ",".join(reversed(parts))


def _spell_part(part: _Value) -> str:
    if part.tag != SET:
        raise ValueError("a relative distinguished name must be a SET")
    return "+".join(_spell_attribute(attribute) for attribute in _values(part.content))


def _spell_attribute(attribute: _Value) -> str:
    fields = list(_values(attribute.content))
    if attribute.tag != SEQUENCE or [each.tag for each in fields[:1]] != [OBJECT_IDENTIFIER]:
        raise ValueError("an attribute must be a type and a value")
    if len(fields) != 2:  # noqa: PLR2004 - type and value
        raise ValueError("an attribute must be a type and a value")
    kind, value = _spell_type(fields[0].content), fields[1]
    keyword = _KEYWORDS.get(kind)
    if keyword is None or value.tag not in _STRINGS:
        return f"{keyword or kind}=#{value.whole.hex()}"
    return f"{keyword}={_escape(value.content.decode('utf-8', 'replace'))}"


def _escape(text: str) -> str:
    # Java escapes NUL so, and leaves every other control character as it is.
    spelled = "".join(f"\\{each}" if each in _ESCAPED else "\\00" if each == "\0" else each for each in text)
    lead = len(spelled) - len(spelled.lstrip(_BLANKS))
    trail = max(lead, len(spelled.rstrip(_BLANKS)))
    return (
        "".join(f"\\{each}" for each in spelled[:lead])
        + spelled[lead:trail]
        + "".join(f"\\{each}" for each in spelled[trail:])
    )


def _spell_type(content: bytes) -> str:
    """An object identifier in digits: base 128, the first two numbers in one (X.690, 8.19)."""
    numbers: list[int] = []
    number = 0
    for byte in content:
        number = number << 7 | byte & 0x7F
        if byte < _LONG_FORM:
            numbers.append(number)
            number = 0
    if not numbers or content[-1] >= _LONG_FORM:
        raise ValueError("a type that is not whole")
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))


def _only(der: bytes, tag: int) -> bytes:
    values = list(_values(der))
    if [each.tag for each in values] != [tag]:
        raise ValueError("not the DER value that is expected here")
    return values[0].content


def _values(content: Sequence[int] | bytes) -> Iterator[_Value]:
    """The values that stand in a row. Definite lengths only, as DER demands."""
    content = bytes(content)
    start = 0
    while start < len(content):
        body, end = _extent(content, start)
        yield _Value(content[start], content[body:end], content[start:end])
        start = end


def _extent(content: bytes, start: int) -> tuple[int, int]:
    body = start + 2
    if body > len(content):
        raise ValueError("a DER value that is cut off")
    length = content[start + 1]
    if length >= _LONG_FORM:
        count = length - _LONG_FORM
        if not 1 <= count <= _LENGTH_BYTES_MAX:
            raise ValueError("a DER length that nobody writes")
        length = int.from_bytes(content[body : body + count], "big")
        body += count
    if body + length > len(content):
        raise ValueError("a DER value that is cut off")
    return body, body + length
