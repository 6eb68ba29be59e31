"""Settings come from the environment and the command line, once, and every fault is told at once."""

from __future__ import annotations

import os
from pathlib import Path

import pydantic
import pytest

from tidemill_poller.errors import InvalidSettings
from tidemill_poller.settings import Settings, read_settings


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("TIDEMILL_") or name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
            monkeypatch.delenv(name)


def test_without_an_environment_everything_has_its_documented_default() -> None:
    settings = read_settings()
    assert (settings.host, settings.port, settings.data_dir) == ("127.0.0.1", 4581, Path(".tidemill/poller"))
    assert (settings.region, settings.account_id) == ("us-east-1", "123456789012")
    assert (settings.retry_backoff_base_s, settings.retry_backoff_max_s) == (1, 60)
    assert (settings.destination_failure, settings.isolation_level) == ("hold", "read_uncommitted")
    assert settings.parity_require_source_access
    assert settings.parity_require_provisioned


def test_the_environment_sets_and_the_command_line_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_POLLER_PORT", "1")
    monkeypatch.setenv("TIDEMILL_POLLER_RETRY_BACKOFF_BASE_S", "0.05")
    monkeypatch.setenv("TIDEMILL_POLLER_PARITY_REQUIRE_SOURCE_ACCESS", "false")
    monkeypatch.setenv("TIDEMILL_ACCOUNT_ID", "000000000001")
    settings = read_settings(port=0, host=None)
    assert (settings.port, settings.host) == (0, "127.0.0.1")
    assert settings.retry_backoff_base_s == 0.05
    assert not settings.parity_require_source_access
    assert settings.account_id == "000000000001"


def test_the_region_is_awss_with_the_newer_name_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert read_settings().region == "eu-west-1"
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    assert read_settings().region == "eu-north-1"


def test_all_faults_are_reported_at_once_by_the_names_users_set_and_without_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TIDEMILL_POLLER_PORT", "pasted-secret")
    monkeypatch.setenv("TIDEMILL_POLLER_DESTINATION_FAILURE", "pasted-secret")
    monkeypatch.setenv("TIDEMILL_ACCOUNT_ID", "12")
    with pytest.raises(InvalidSettings) as caught:
        read_settings(drain_timeout_s=-1)
    lines = str(caught.value).splitlines()
    assert sorted(line.split(":")[0] for line in lines) == [
        "TIDEMILL_ACCOUNT_ID",
        "TIDEMILL_POLLER_DESTINATION_FAILURE",
        "TIDEMILL_POLLER_DRAIN_TIMEOUT_S",
        "TIDEMILL_POLLER_PORT",
    ]
    assert "pasted-secret" not in str(caught.value)


def test_a_misspelt_setting_is_reported_with_the_near_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_POLLER_DRAIN_TIMEOUT", "5")
    monkeypatch.setenv("TIDEMILL_POLLER_ZZZ", "5")
    monkeypatch.setenv("TIDEMILL_POLLER_REGION", "eu-west-1")  # the region is AWS_REGION's
    with pytest.raises(InvalidSettings) as caught:
        read_settings()
    assert str(caught.value).splitlines() == [
        "TIDEMILL_POLLER_DRAIN_TIMEOUT: no such setting; did you mean TIDEMILL_POLLER_DRAIN_TIMEOUT_S?",
        "TIDEMILL_POLLER_REGION: no such setting",
        "TIDEMILL_POLLER_ZZZ: no such setting",
    ]


def test_a_backoff_cannot_start_above_its_ceiling() -> None:
    with pytest.raises(InvalidSettings, match="retry_backoff_max_s must not be below retry_backoff_base_s"):
        read_settings(retry_backoff_base_s=2, retry_backoff_max_s=1)


def test_settings_do_not_change_afterwards() -> None:
    with pytest.raises(pydantic.ValidationError):
        Settings().port = 1
