"""A certificate's owner has the very name, and becomes the very user, that Kafka's own classes give."""

from __future__ import annotations

import random

import pytest

from tests.oracles.apache_kafka import jars_or_skip
from tests.oracles.java_names import JavaNames
from tidemill_broker.auth.tls.distinguished_name import spell_name
from tidemill_broker.auth.tls.principal_rules import NoRuleApplies, PrincipalRules

pytestmark = pytest.mark.kafka

# CN, C, L, ST, STREET, O, OU; serialNumber, title, givenName; UID, DC; emailAddress; three that nobody knows.
KNOWN = ["550403", "550406", "550407", "550408", "550409", "55040a", "55040b"]
OTHER = ["550405", "55040c", "55042a", "0992268993f22c640101", "0992268993f22c640119", "2a864886f70d010901"]
OIDS = [bytes.fromhex(text) for text in [*KNOWN, *OTHER, "2b8101", "883703", "2a"]]
# UTF8, Printable, T61, IA5, General, BMP, Universal, Numeric; then an integer and a bit string.
TAGS = [12, 12, 12, 19, 19, 20, 22, 27, 30, 28, 18, 2, 3]
BLANK = ["", " ", "  ", " a", "a ", "\ra\r", "a  b", " \r ", "a\nb", "\t", "\x7f", "\x01\x02"]
ESCAPED = ["#", "#1", "a,b", "a+b", '"', "\\", "a\\ ", "<>;=", "\0", "a\0b", "CN=x"]
PLAIN = ["a", "Zo\u00eb", "\u65e5\u672c", "\U0001f600", "*.example.com", "O'Hara (x)", "a:b/c-d?"]
TEXTS = [text.encode() for text in [*BLANK, *ESCAPED, *PLAIN]] + [b"\xff\xfe", b"\xe2\x82", b"a\xc3"]


@pytest.fixture(scope="module")
def java(tmp_path_factory: pytest.TempPathFactory) -> JavaNames:
    jars_or_skip()
    return JavaNames(tmp_path_factory.mktemp("java"))


def tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    length = bytes([size]) if size < 128 else b"\x82" + size.to_bytes(2, "big")
    return bytes([tag]) + length + content


def attribute(oid: bytes, tag: int, text: bytes) -> bytes:
    return tlv(0x30, tlv(6, oid) + tlv(tag, text))


def subjects() -> list[bytes]:
    dice = random.Random(20)  # the same names in every run
    every = [tlv(0x30, tlv(0x31, attribute(OIDS[0], tag, text))) for tag in set(TAGS) for text in TEXTS]
    every += [tlv(0x30, tlv(0x31, attribute(oid, 12, b"x"))) for oid in OIDS]
    for _ in range(300):
        parts = []
        for _ in range(dice.randrange(4)):
            values = [
                attribute(dice.choice(OIDS), dice.choice(TAGS), dice.choice(TEXTS))
                for _ in range(dice.choice((1, 1, 1, 2, 3)))
            ]
            parts.append(tlv(0x31, b"".join(values)))
        every.append(tlv(0x30, b"".join(parts)))
    return [*every, tlv(0x30, tlv(0x31, attribute(OIDS[0], 12, b"long " * 100)))]


def test_every_name_is_spelled_as_java_spells_it(java: JavaNames) -> None:
    asked = subjects()
    answers = java.names(asked)
    compared = 0
    for subject, expected in zip(asked, answers, strict=True):
        if expected is not None:
            assert spell_name(subject) == expected, subject.hex()
            compared += 1
    assert compared > 500


DN = "CN=Duke,OU=ServiceUsers,O=Org,C=US"
RULES = [
    ("DEFAULT", DN),
    ("", DN),
    (",,", DN),
    ("RULE:^CN=(.*?),OU=ServiceUsers.*$/$1/", DN),
    ("RULE:^CN=(.*?),OU=ServiceUsers.*$/$1/,DEFAULT", "CN=x"),
    ("RULE:^CN=(.*?),OU=(.*?),O=(.*?),C=(.*?)$/$1@$2/L", DN),
    ("RULE:^CN=(.*?),OU=(.*?),O=(.*?),C=(.*?)$/$1@$2/U", DN),
    ("RULE:^.*[Cc][Nn]=([a-zA-Z0-9.]*).*$/$1/L", DN),
    ("RULE:^cn=(.?),ou=(.?)$/$1/ , DEFAULT ", DN),
    ("RULE:CN=Duke/x/", DN),  # matches a part only
    ("RULE:^CN=([^,]+).*$/$1$4/", DN),  # no fourth group
    ("RULE:^CN=([^,]+).*$/$12/", DN),
    ("RULE:^CN=([^,]+).*$/$0/", DN),
    ("RULE:^CN=([^,]+).*$/$01/", DN),
    (r"RULE:^CN=([^,]+).*$/\$1/", DN),
    (r"RULE:^CN=([^,]+).*$/a\/b\\/", DN),
    (r"RULE:^CN=(Du\/ke).*$/$1/", "CN=Du/ke"),
    ("RULE:.*/x/", DN),  # the empty end matches once more
    ("RULE:(.)*/x/", DN),
    ("RULE:^CN=(.*)$/$1/LX", DN),
    ("RULE:^CN=(.*)$/$1/,RULE:^CN=.*$/y/", DN),
    ("RULE:^CN=(a)?(.*)$/[$1]/", DN),
    ("DEFAULT,RULE:^CN=(.*)$/$1/", DN),
    ("RULE:^CN=(.*)$//", DN),
    ("RULE:^CN=(\\w+).*$/$1/", "CN=Zo\u00eb,O=x"),
    ("default", DN),
    ("RULE:", DN),
    ("RULE:^CN=(.*)$/$1", DN),
    ("RULE:^CN=(.*$/$1/", DN),
    ("RULE:^CN=(.*)$/$x/", DN),
    ("DEFAULT/L", DN),
]


def ours(rules: str, name: str) -> str | None:
    try:
        return PrincipalRules(rules).user(name)
    except (ValueError, NoRuleApplies):
        return None


def test_every_rule_makes_the_user_that_kafka_makes(java: JavaNames) -> None:
    found = [(rules, ours(rules, name)) for rules, name in RULES]
    answers = java.users(RULES)
    # An empty user is nobody here; Kafka lets "User:" in.
    assert found == [(rules, said or None) for (rules, _), said in zip(RULES, answers, strict=True)]
