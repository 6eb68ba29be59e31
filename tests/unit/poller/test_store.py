"""The mapping store keeps what it was given, through restarts, kills, rivals and damage."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections import abc
from dataclasses import replace
from pathlib import Path

import pytest

from tidemill_poller.errors import StoreUnavailable, StoreUnreadable, VersionConflict
from tidemill_poller.mapping import (
    Mapping,
    MskSource,
    Provisioned,
    SelfManagedSource,
    SourceAccess,
    StartingPosition,
    State,
)
from tidemill_poller.store import FILE_NAME, SCHEMA_VERSION, MappingStore

NOW_MS = 1_700_000_000_000
PLAIN = Mapping(
    uuid="00000000-0000-0000-0000-000000000001",
    function_arn="arn:aws:lambda:us-east-1:123456789012:function:f",
    source=MskSource(arn="arn:aws:kafka:us-east-1:123456789012:cluster/c/u-1"),
    topic="orders",
    consumer_group_id="g",
)
FULL = Mapping(
    uuid="00000000-0000-0000-0000-000000000002",
    function_arn="arn:aws:lambda:us-east-1:123456789012:function:f:live",
    source=SelfManagedSource(bootstrap_servers=("a:1", "b:2")),
    topic="é",
    consumer_group_id="g2",
    batch_size=1,
    batching_window_s=0,
    starting_position=StartingPosition.AT_TIMESTAMP,
    starting_position_timestamp_ms=5,
    enabled=False,
    maximum_retry_attempts=3,
    maximum_record_age_s=60,
    bisect_batch_on_function_error=True,
    report_batch_item_failures=True,
    on_failure="arn:aws:sqs:us-east-1:123456789012:q",
    filter_patterns=('{"value":["x"]}',),
    access=(SourceAccess(type="VPC_SUBNET", uri="subnet:subnet-1"),),
    provisioned=Provisioned(minimum_pollers=2, maximum_pollers=3, group_name="p"),
    state=State.DISABLED,
    state_transition_reason="ESM_CONFIG_NOT_VALID",
    last_processing_result="PROBLEM: Function call failed",
    last_modified_ms=NOW_MS - 1,
    version=7,
)


@pytest.fixture
def store(tmp_path: Path) -> abc.Iterator[MappingStore]:
    opened = MappingStore(tmp_path, now_ms=lambda: NOW_MS)
    yield opened
    opened.close()


@pytest.mark.parametrize("mapping", [PLAIN, FULL], ids=["plain", "full"])
def test_a_mapping_comes_back_equal_after_a_restart(tmp_path: Path, mapping: Mapping) -> None:
    first = MappingStore(tmp_path)
    first.create(mapping, tags={"team": "tide"})
    first.close()
    second = MappingStore(tmp_path)
    assert second.get(mapping.uuid) == mapping
    assert second.all() == [mapping]
    assert second.tags(mapping.uuid) == {"team": "tide"}
    assert second.revision == 1
    second.close()


def test_what_is_not_there_is_none(store: MappingStore) -> None:
    assert store.get("x") is None
    assert store.tags("x") is None
    assert store.all() == []
    store.delete("x")
    assert not store.set_status("x", state=State.ENABLED)


def test_a_replace_counts_versions_and_keeps_the_fleets_result(store: MappingStore) -> None:
    store.create(PLAIN)
    store.set_status(PLAIN.uuid, last_processing_result="OK")
    written = store.replace(replace(PLAIN, batch_size=5, state=State.UPDATING), expected_version=1)
    assert written.version == 2
    assert store.get(PLAIN.uuid) == replace(
        PLAIN, batch_size=5, state=State.UPDATING, version=2, last_processing_result="OK"
    )


@pytest.mark.parametrize("uuid", [PLAIN.uuid, "absent"])
def test_a_replace_of_another_version_writes_nothing(store: MappingStore, uuid: str) -> None:
    store.create(PLAIN)
    revision = store.revision
    with pytest.raises(VersionConflict):
        store.replace(replace(PLAIN, uuid=uuid, batch_size=5), expected_version=2)
    assert store.all() == [PLAIN]
    assert store.revision == revision


def test_a_state_is_stamped_and_a_result_is_not(store: MappingStore) -> None:
    store.create(PLAIN)
    assert store.set_status(PLAIN.uuid, last_processing_result="OK")
    mapping = store.get(PLAIN.uuid)
    assert mapping is not None
    assert mapping.last_modified_ms == 0
    assert store.set_status(PLAIN.uuid, state=State.ENABLED, reason="EVENT_SOURCE_AUTHN_ERROR")
    assert store.get(PLAIN.uuid) == replace(
        PLAIN,
        state=State.ENABLED,
        state_transition_reason="EVENT_SOURCE_AUTHN_ERROR",
        last_processing_result="OK",
        last_modified_ms=NOW_MS,
    )


def test_a_status_moves_no_revision_and_an_equal_one_is_not_written(store: MappingStore) -> None:
    store.create(PLAIN)
    assert store.set_status(PLAIN.uuid, state=State.ENABLED)
    assert not store.set_status(PLAIN.uuid, state=State.ENABLED)
    assert store.revision == 1


def test_a_status_for_an_older_configuration_is_not_written(store: MappingStore) -> None:
    store.create(PLAIN)
    store.replace(replace(PLAIN, state=State.UPDATING), expected_version=1)
    assert not store.set_status(PLAIN.uuid, state=State.ENABLED, version=1)
    assert store.set_status(PLAIN.uuid, state=State.ENABLED, version=2)


def test_nothing_leads_out_of_deleting_but_the_end(store: MappingStore) -> None:
    store.create(PLAIN)
    store.replace(replace(PLAIN, state=State.DELETING), expected_version=1)
    assert not store.set_status(PLAIN.uuid, state=State.ENABLED, reason="x")
    mapping = store.get(PLAIN.uuid)
    assert mapping is not None
    assert mapping.state is State.DELETING
    store.delete(PLAIN.uuid)
    assert store.get(PLAIN.uuid) is None


async def test_a_waiter_wakes_at_once_on_every_change_of_configuration(store: MappingStore) -> None:
    for change in (
        lambda: store.create(PLAIN),
        lambda: store.replace(PLAIN, expected_version=1),
        lambda: store.delete(PLAIN.uuid),
    ):
        before = store.revision
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            waiter = group.create_task(store.changed(before))
            await asyncio.sleep(0)
            assert not waiter.done()
            change()
        assert waiter.result() == before + 1


async def test_a_change_that_came_first_is_not_waited_for(store: MappingStore) -> None:
    store.create(PLAIN)
    assert await store.changed(0) == 1


async def test_another_connections_change_is_seen(store: MappingStore, tmp_path: Path) -> None:
    other = MappingStore(tmp_path)
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        waiter = group.create_task(store.changed(store.revision))
        await asyncio.sleep(0)
        other.create(PLAIN)
    assert waiter.result() == 1
    assert store.get(PLAIN.uuid) == PLAIN
    other.close()


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    """A process writes mappings, says so line by line, and is killed in the middle."""
    script = """
import sys
from dataclasses import replace
from pathlib import Path
from tidemill_poller.store import MappingStore
from tests.unit.poller.test_store import PLAIN
store = MappingStore(Path(sys.argv[1]))
for number in range(1_000_000):
    store.create(replace(PLAIN, uuid=f"{number:036}"))
    print(number, flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": "."},
    ) as writer:
        assert writer.stdout is not None
        acknowledged = [int(writer.stdout.readline()) for _ in range(50)]
        writer.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in writer.stdout.read().splitlines()]
    store = MappingStore(tmp_path)
    kept = {int(mapping.uuid) for mapping in store.all()}
    store.close()
    # One more may have been written than its writer lived to say.
    assert set(acknowledged) <= kept <= {*acknowledged, acknowledged[-1] + 1}


def test_a_file_that_is_no_database_is_rejected_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / FILE_NAME
    file.write_bytes(b"not a database" * 100)
    with pytest.raises(StoreUnreadable, match=r"mappings\.db: file is not a database; move the file away"):
        MappingStore(tmp_path)
    assert file.read_bytes() == b"not a database" * 100


def test_a_damaged_file_is_rejected_with_its_name(tmp_path: Path) -> None:
    store = MappingStore(tmp_path)
    for number in range(100):
        store.create(replace(FULL, uuid=f"{number:036}"))
    store.close()
    file = tmp_path / FILE_NAME
    content = bytearray(file.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    file.write_bytes(content)
    with pytest.raises(StoreUnreadable, match=r"mappings\.db: .*move the file away"):
        MappingStore(tmp_path)


@pytest.mark.parametrize("version", [0, SCHEMA_VERSION + 1])
def test_a_file_of_another_schema_is_rejected(tmp_path: Path, version: int) -> None:
    with sqlite3.connect(tmp_path / FILE_NAME) as db:
        db.execute("CREATE TABLE other (x)")
        db.execute(f"PRAGMA user_version = {version}")
    db.close()
    with pytest.raises(StoreUnreadable, match=f"schema version {version} is not {SCHEMA_VERSION}"):
        MappingStore(tmp_path)


@pytest.mark.parametrize("configuration", ["{", "[]", '{"topic": 5}'])
def test_a_row_that_cannot_be_read_is_named(tmp_path: Path, store: MappingStore, configuration: str) -> None:
    store.create(PLAIN)
    with sqlite3.connect(tmp_path / FILE_NAME) as db:
        db.execute("UPDATE mappings SET configuration = ?", (configuration,))
    db.close()
    with pytest.raises(StoreUnreadable, match=f"mapping {PLAIN.uuid} cannot be read"):
        store.get(PLAIN.uuid)


def test_a_row_of_an_older_tidemill_gets_the_defaults_of_new_fields(
    tmp_path: Path, store: MappingStore
) -> None:
    store.create(PLAIN)
    with sqlite3.connect(tmp_path / FILE_NAME) as db:
        db.execute("UPDATE mappings SET configuration = json_remove(configuration, '$.batch_size')")
    db.close()
    assert store.get(PLAIN.uuid) == PLAIN


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="--data-dir must be a writable directory"):
        MappingStore(tmp_path / "file" / "below")


def test_a_write_that_another_process_blocks_fails_clearly_and_works_later(
    tmp_path: Path, store: MappingStore
) -> None:
    store._db.execute("PRAGMA busy_timeout = 50")  # the test need not wait as long as the program does
    with sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None) as db:
        db.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locked; nothing was written"):
            store.create(PLAIN)
        db.execute("ROLLBACK")
    db.close()
    store.create(PLAIN)
    assert store.all() == [PLAIN]


DAMAGES = {
    "configuration": "{",
    "state": "Odd",
    "function_arn": None,
    "last_modified_ms": 10**18,
    "utf-8": None,
}


def damage(tmp_path: Path, uuid: str, what: str) -> None:
    """Damage one row as bit rot or a text editor would."""
    with sqlite3.connect(tmp_path / FILE_NAME) as db:
        if what == "function_arn":
            db.execute(
                "UPDATE mappings SET configuration = json_set(configuration, '$.function_arn', 'f')"
                " WHERE uuid = ?",
                (uuid,),
            )
        elif what == "utf-8":
            db.execute("UPDATE mappings SET configuration = CAST(x'7bff7d' AS TEXT) WHERE uuid = ?", (uuid,))
        else:
            db.execute(f"UPDATE mappings SET {what} = ? WHERE uuid = ?", (DAMAGES[what], uuid))
    db.close()


@pytest.mark.parametrize("what", DAMAGES)
def test_a_damaged_row_costs_its_own_mapping_only(
    tmp_path: Path, store: MappingStore, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    store.create(PLAIN)
    store.create(FULL)
    damage(tmp_path, PLAIN.uuid, what)

    assert store.all() == [FULL]
    [damaged] = store.damaged()
    assert damaged.uuid == PLAIN.uuid
    assert str(tmp_path / FILE_NAME) in damaged.reason
    assert f"mapping {PLAIN.uuid} cannot be read" in damaged.reason
    assert "delete the mapping and create it again" in damaged.reason
    assert "\n" not in damaged.reason
    assert [line for line in caplog.messages if PLAIN.uuid in line] == [
        f"mapping damaged mapping={PLAIN.uuid} reason={damaged.reason}"
    ]


def test_damaged_tags_are_named(tmp_path: Path, store: MappingStore) -> None:
    store.create(PLAIN, tags={"team": "tide"})
    with sqlite3.connect(tmp_path / FILE_NAME) as db:
        db.execute("UPDATE mappings SET tags = '[1'")
    db.close()
    with pytest.raises(StoreUnreadable, match=f"mapping {PLAIN.uuid} cannot be read"):
        store.tags(PLAIN.uuid)
    assert store.all() == [PLAIN]


def test_an_empty_file_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / FILE_NAME).touch()
    MappingStore(tmp_path).close()
    assert f"file={tmp_path / FILE_NAME} reason=it had 0 bytes" in caplog.text
    assert "restore a backup" in caplog.text
    caplog.clear()
    MappingStore(tmp_path).close()
    assert caplog.text == ""


def test_a_new_store_reports_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    MappingStore(tmp_path / "new").close()
    assert caplog.text == ""


def test_an_empty_file_with_a_write_ahead_log_is_rejected_and_left_alone(tmp_path: Path) -> None:
    """SQLite deletes the log of an empty file; it may hold the only copy of the mappings."""
    (tmp_path / FILE_NAME).touch()
    log = tmp_path / f"{FILE_NAME}-wal"
    log.write_bytes(b"frames")
    with pytest.raises(StoreUnreadable, match="holds changes to what it was; restore a backup"):
        MappingStore(tmp_path)
    assert log.read_bytes() == b"frames"


@pytest.mark.parametrize("kept_bytes", [50, 100, 4096, 4096 + 100])
def test_a_truncated_file_is_rejected_with_the_fix(tmp_path: Path, kept_bytes: int) -> None:
    store = MappingStore(tmp_path)
    for number in range(100):
        store.create(replace(FULL, uuid=f"{number:036}"))
    store.close()
    file = tmp_path / FILE_NAME
    content = file.read_bytes()[:kept_bytes]
    file.write_bytes(content)
    with pytest.raises(StoreUnreadable, match=r"mappings\.db: .*restore a backup"):
        MappingStore(tmp_path)
    assert file.read_bytes()[:kept_bytes] == content


def test_a_page_that_becomes_garbage_while_the_poller_runs_is_reported(tmp_path: Path) -> None:
    store = MappingStore(tmp_path)
    for number in range(100):
        store.create(replace(FULL, uuid=f"{number:036}"))
    store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store._db.execute("PRAGMA cache_size = 0")
    file = tmp_path / FILE_NAME
    content = bytearray(file.read_bytes())
    content[2 * 4096 :] = b"\xa5" * (len(content) - 2 * 4096)
    file.write_bytes(content)
    with pytest.raises(StoreUnreadable, match=r"mappings\.db: .*malformed; move the file away"):
        store.all()
    store.close()


def test_a_newer_schema_is_not_moved_away(tmp_path: Path) -> None:
    store = MappingStore(tmp_path)
    store._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    store.close()
    with pytest.raises(StoreUnreadable, match=r"start the Tidemill that wrote it$"):
        MappingStore(tmp_path)


def test_a_directory_in_the_file_s_place_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(StoreUnavailable, match=r"mappings\.db: .*and the file a regular one"):
        MappingStore(tmp_path)


def test_a_store_that_another_process_holds_at_start_is_named_with_the_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidemill_poller.store._BUSY_TIMEOUT_S", 0.05)
    MappingStore(tmp_path).close()
    with sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None) as db:
        db.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreUnavailable, match="locked; another process holds the file: stop it"):
            MappingStore(tmp_path)
        db.execute("ROLLBACK")
    db.close()


def test_a_full_disk_costs_one_write_and_is_named(tmp_path: Path, store: MappingStore) -> None:
    store.create(PLAIN)
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    large = replace(FULL, filter_patterns=("x" * 100_000,))
    with pytest.raises(StoreUnavailable, match="full; nothing was written; free space on its disk"):
        store.create(large)
    assert store.all() == [PLAIN]
    store._db.execute("PRAGMA max_page_count = 1000000")
    store.create(large)
    assert store.all() == [PLAIN, large]


def test_a_store_that_may_not_be_written_is_read_and_named(store: MappingStore) -> None:
    store.create(PLAIN)
    store._db.execute("PRAGMA query_only = ON")
    with pytest.raises(StoreUnavailable, match="nothing was written; let this user write"):
        store.set_status(PLAIN.uuid, state=State.ENABLED)
    assert store.all() == [PLAIN]
