"""`tidemill broker init-tls`: what it makes, what it keeps, and what it rejects."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509

from tidemill_broker.commands.init_tls import main


def certificates(file: Path) -> list[x509.Certificate]:
    content = file.read_bytes()
    return x509.load_pem_x509_certificates(content[content.index(b"-----BEGIN CERTIFICATE") :])


def hosts(file: Path) -> list[str]:
    extension = certificates(file)[0].extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return [str(name.value) for name in extension.value]


def test_it_makes_a_ca_a_broker_and_a_client(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = tmp_path / "deep" / "tls"
    assert main([str(made)]) == 0
    assert sorted(file.name for file in made.iterdir()) == ["broker.pem", "ca.key", "ca.pem", "client.pem"]
    ca = certificates(made / "ca.pem")[0]
    for name in ("broker", "client"):
        (issued,) = certificates(made / f"{name}.pem")
        issued.verify_directly_issued_by(ca)
        assert issued.subject.rfc4514_string() == f"CN={name}"
    assert hosts(made / "broker.pem") == ["localhost", "127.0.0.1", "::1"]
    said = capsys.readouterr().out
    for line in ("security.protocol=ssl", "ssl.truststore.type=PEM", "ssl_context=", "ssl_cafile="):
        assert line in said
    assert "PRIVATE KEY" not in said


def test_only_the_owner_reads_keys(tmp_path: Path) -> None:
    made = tmp_path / "tls"
    assert main([str(made)]) == 0
    modes = {file.name: file.stat().st_mode & 0o777 for file in made.iterdir()}
    assert modes == {"ca.pem": 0o644, "ca.key": 0o600, "broker.pem": 0o600, "client.pem": 0o600}
    assert made.stat().st_mode & 0o777 == 0o700


def test_run_again_it_keeps_what_is_there_and_adds_what_is_asked_for(tmp_path: Path) -> None:
    assert main([str(tmp_path)]) == 0
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert main([str(tmp_path), "--client", "alice", "--client", "bob.smith"]) == 0
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    for name in ("alice", "bob.smith"):
        assert certificates(tmp_path / f"{name}.pem")[0].subject.rfc4514_string() == f"CN={name}"
    assert main([str(tmp_path), "--host", "kafka.local", "--host", "10.0.0.7"]) == 0
    assert set(hosts(tmp_path / "broker.pem")) >= {"kafka.local", "10.0.0.7", "localhost"}
    assert (tmp_path / "client.pem").read_bytes() == before["client.pem"]


def test_renewed_certificates_keep_their_names_and_their_ca(tmp_path: Path) -> None:
    assert main([str(tmp_path), "--host", "kafka.local"]) == 0
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert main([str(tmp_path), "--renew"]) == 0
    changed = {name for name, content in before.items() if (tmp_path / name).read_bytes() != content}
    assert changed == {"broker.pem", "client.pem"}
    assert "kafka.local" in hosts(tmp_path / "broker.pem")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--client", "../x"], "--client ../x: give a name of 1 to 64"),
        (["--client", "CA"], "not ca or broker"),
        (["--client", ""], "give a name of 1 to 64"),
        (["--client", "x" * 65], "give a name of 1 to 64"),
        (["--host", "kafka:9094"], "--host kafka:9094: give a DNS name or an IP address, without a port"),
        (["--host", "-x"], "give a DNS name"),
        (["--host", ""], "give a DNS name"),
    ],
)
def test_names_that_cannot_be_are_rejected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    flag, value = arguments
    assert main([str(tmp_path), f"{flag}={value}"]) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["ca.pem", "ca.key"])
def test_half_a_ca_is_rejected_and_not_made_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    assert main([str(tmp_path)]) == 0
    (tmp_path / missing).unlink()
    assert main([str(tmp_path), "--client", "alice"]) == 1
    assert "restore both files, or remove the folder" in capsys.readouterr().err
    assert not (tmp_path / "alice.pem").exists()


def test_a_ca_whose_key_is_another_cas_is_rejected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "a")]) == main([str(tmp_path / "b")]) == 0
    (tmp_path / "a" / "ca.key").write_bytes((tmp_path / "b" / "ca.key").read_bytes())
    assert main([str(tmp_path / "a"), "--client", "alice"]) == 1
    assert "is not the key of" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main([str(tmp_path / "file" / "tls")]) == 1
    assert capsys.readouterr().err.startswith("error: ")
