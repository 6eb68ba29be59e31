"""Settings are read once, with all faults at once; handlers get little of the server's environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tidemill_functions.errors import InvalidSettings
from tidemill_functions.settings import handed_on, read_settings


def test_the_command_line_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_FUNCTIONS_PORT", "1000")
    monkeypatch.setenv("TIDEMILL_FUNCTIONS_IDLE_S", "7.5")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.delenv("AWS_REGION", raising=False)
    found = read_settings({"port": 0, "host": None, "data_dir": Path("d")}, os.environ)
    assert (found.port, found.host, found.idle_s, found.region) == (0, "127.0.0.1", 7.5, "eu-west-1")


def test_all_faults_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_FUNCTIONS_MAX_ENVIRONMENTS", "0")
    monkeypatch.setenv("TIDEMILL_ACCOUNT_ID", "me")
    with pytest.raises(InvalidSettings) as raised:
        read_settings({"port": 70_000}, os.environ)
    for name in ("TIDEMILL_FUNCTIONS_MAX_ENVIRONMENTS", "TIDEMILL_ACCOUNT_ID", "TIDEMILL_FUNCTIONS_PORT"):
        assert name in str(raised.value)


def test_a_misspelt_setting_is_rejected_with_the_nearest_name() -> None:
    with pytest.raises(InvalidSettings) as raised:
        read_settings({}, {"TIDEMILL_FUNCTIONS_IDEL_S": "9", "TIDEMILL_FUNCTIONS_XYZZY": "1"})
    assert str(raised.value).splitlines() == [
        "TIDEMILL_FUNCTIONS_IDEL_S: no such setting; did you mean TIDEMILL_FUNCTIONS_IDLE_S?",
        "TIDEMILL_FUNCTIONS_XYZZY: no such setting",
    ]


def test_a_faulty_value_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_FUNCTIONS_PORT", "s3cr3t")
    with pytest.raises(InvalidSettings) as raised:
        read_settings({}, os.environ)
    assert "s3cr3t" not in str(raised.value)


def test_handlers_get_endpoints_credentials_and_the_path_and_nothing_else() -> None:
    found = handed_on(
        {
            "PATH": "/bin",
            "HOME": "/home/me",
            "GITHUB_TOKEN": "secret",
            "AWS_PROFILE": "me",
            "AWS_ENDPOINT_URL": "http://a",
            "AWS_ENDPOINT_URL_S3": "http://b",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret key",
            "AWS_SESSION_TOKEN": "token",
        },
        "us-west-2",
    )
    assert found == {
        "PATH": "/bin",
        "AWS_ENDPOINT_URL": "http://a",
        "AWS_ENDPOINT_URL_S3": "http://b",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret key",
        "AWS_SESSION_TOKEN": "token",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_REGION": "us-west-2",
        "AWS_DEFAULT_REGION": "us-west-2",
        "LANG": "C.UTF-8",
        "TZ": ":UTC",
    }


def test_half_a_credential_is_none() -> None:
    found = handed_on({"AWS_ACCESS_KEY_ID": "key", "AWS_SESSION_TOKEN": "token"}, "us-east-1")
    assert (found["AWS_ACCESS_KEY_ID"], found["AWS_SECRET_ACCESS_KEY"]) == ("test", "test")
    assert "AWS_SESSION_TOKEN" not in found
