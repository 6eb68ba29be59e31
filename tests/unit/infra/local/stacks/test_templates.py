"""A template costs what a template may have, whatever its aliases and loops would make of it."""

from __future__ import annotations

import pytest
import yaml
from ministack.services.cloudformation import language_extensions
from ministack.services.cloudformation.engine import CfnLoader

from tidemill_local.errors import TemplateTooLarge
from tidemill_local.stacks.templates import BoundedExpansion, bounded_loader, bounded_parse, check_yaml


def test_aliases_are_rejected_with_the_sentence_of_aws() -> None:
    aliases = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{f'*a{n - 1},' * 10}]\n" for n in range(1, 9))
    with pytest.raises(TemplateTooLarge, match="YAML aliases are not allowed in CloudFormation templates"):
        check_yaml(aliases)


def test_the_loader_of_the_engine_reads_tags_and_rejects_aliases() -> None:
    loader = bounded_loader(CfnLoader)
    read = yaml.load("Value: !Sub '${AWS::Region}'", Loader=loader)
    assert read == {"Value": {"Fn::Sub": "${AWS::Region}"}}
    with pytest.raises(TemplateTooLarge):
        yaml.load("a: &a [x]\nb: *a", Loader=loader)


@pytest.mark.parametrize("deep", ["[" * 400_000, "- " * 400_000, "{a: " * 100_000])
def test_levels_are_counted_before_they_cost_anything(deep: str) -> None:
    with pytest.raises(TemplateTooLarge, match="nests 64 levels at most"):
        check_yaml(deep)


def test_values_are_bounded() -> None:
    with pytest.raises(TemplateTooLarge, match="100000 values at most"):
        check_yaml("- x\n" * 100_001)


def test_a_template_with_tags_is_read_and_json_is_left_to_its_own_reader() -> None:
    read = bounded_parse(lambda text: text)
    for text in ("Outputs: {Name: {Value: !Sub '${AWS::Region}', Other: !GetAtt a.b}}", '{"a": [1]}'):
        assert read(text) == text


def test_loops_within_loops_make_a_bounded_number_of_values(monkeypatch: pytest.MonkeyPatch) -> None:
    expansion = BoundedExpansion(language_extensions._expand, language_extensions._for_each)
    monkeypatch.setattr(language_extensions, "_expand", expansion.expand)
    monkeypatch.setattr(language_extensions, "_for_each", expansion.for_each)
    numbers = [str(number) for number in range(60)]
    fragment: dict[str, object] = {"Q${a}x${b}x${c}x${d}": {"Type": "AWS::SQS::Queue"}}
    for name in "abcd":
        fragment = {f"Fn::ForEach::Each{name}": [name, numbers, fragment]}
    with pytest.raises(TemplateTooLarge, match="100000 values at most"):
        language_extensions.apply({"Conditions": fragment}, {})
    small = {"Fn::ForEach::Each": ["a", ["1", "2"], {"Q${a}": {"Type": "AWS::SQS::Queue"}}]}
    assert list(language_extensions.apply({"Resources": small}, {})["Resources"]) == ["Q1", "Q2"]
