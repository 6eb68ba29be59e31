"""ssl.principal.mapping.rules by Kafka's semantics; tests/conformance asks Kafka's own class the same."""

from __future__ import annotations

import pytest

from tidemill_broker.auth.tls.principal_rules import NoRuleApplies, PrincipalRules

DN = "CN=Duke,OU=ServiceUsers,O=Org,C=US"


@pytest.mark.parametrize(
    ("rules", "user"),
    [
        ("DEFAULT", DN),
        ("RULE:^CN=([^,]+).*$/$1/", "Duke"),
        ("RULE:^CN=([^,]+).*$/$1/L", "duke"),
        ("RULE:^CN=([^,]+).*$/$1/U", "DUKE"),
        ("RULE:^CN=Other$/x/, RULE:^CN=([^,]+),OU=([^,]+).*$/$1@$2/,DEFAULT", "Duke@ServiceUsers"),
        ("RULE:^CN=([^,]+).*$/$1$4/", "Duke$4"),
        ("RULE:^CN=([^,]+).*$/$12/", "Duke2"),
        (r"RULE:^CN=([^,]+).*$/\$1/", "$1"),
        ("RULE:CN=Duke/x/,DEFAULT", DN),
    ],
)
def test_the_first_rule_that_matches_the_whole_name_decides(rules: str, user: str) -> None:
    assert PrincipalRules(rules).user(DN) == user


@pytest.mark.parametrize("rules", ["", "RULE:^CN=Other$/x/", "RULE:CN=Duke/x/", "RULE:^CN=.*$//"])
def test_nobody_comes_in_whom_no_rule_names(rules: str) -> None:
    with pytest.raises(NoRuleApplies):
        PrincipalRules(rules).user(DN)


@pytest.mark.parametrize(
    ("rules", "fault"),
    [
        ("nonsense", "'nonsense' is no rule: write DEFAULT or RULE:regex/replacement"),
        ("RULE:^CN=(.*$/$1/", "is no regular expression of Python's"),
        ("RULE:^CN=(.*)$/${name}/", "a $ in a replacement is"),
    ],
)
def test_what_is_no_rule_is_rejected_with_its_fix(rules: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault.replace("$", r"\$")):
        PrincipalRules(rules)
