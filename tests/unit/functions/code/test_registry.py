"""Functions on disk: changed as a whole or not at all, and code that nobody needs goes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.functions_server import zip_of
from tidemill_functions.code import attached, registry
from tidemill_functions.code.archive import remove_tree
from tidemill_functions.code.registry import LocalCode, Registry, local_code
from tidemill_functions.code.sources import fingerprint
from tidemill_functions.errors import FunctionExists, FunctionNotFound, InvalidArchive, InvalidFunction

LOCAL = LocalCode(folder="/srv/code")


def opened(data_dir: Path, region: str = "us-east-1") -> Registry:
    return Registry(data_dir, region=region, account_id="123456789012")


def test_a_function_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    registry = opened(tmp_path)
    code = registry.store_zip("orders", zip_of({"app.py": "x = 1"}))
    made = registry.create(
        "orders",
        handler="app.handler",
        code=code,
        timeout_s=9,
        environment={"KEY": "é"},
        echoed={"Role": "r", "VpcConfig": {"SubnetIds": ["s"]}},
    )
    read = opened(tmp_path).get("orders")
    assert read is not None
    for name in type(made).__slots__:
        assert getattr(read, name) == getattr(made, name)
    assert (registry.folder(read) / "app.py").read_text() == "x = 1"


def test_a_name_is_taken_once_and_freed_by_delete(tmp_path: Path) -> None:
    registry = opened(tmp_path)
    registry.create("orders", handler="a.b", code=LOCAL)
    with pytest.raises(FunctionExists):
        registry.create("orders", handler="a.b", code=LOCAL)
    registry.delete("orders")
    assert opened(tmp_path).all() == []
    for change in (registry.delete, registry.replace):
        with pytest.raises(FunctionNotFound, match="arn:aws:lambda:us-east-1:123456789012:function:orders"):
            change("orders")


def test_every_change_makes_another_object_with_another_revision(tmp_path: Path) -> None:
    registry = opened(tmp_path)
    before = registry.create("orders", handler="a.b", code=LOCAL)
    after = registry.replace("orders", timeout_s=5)
    assert after is registry.get("orders")
    assert after is not before
    assert after.revision_id != before.revision_id


def test_replaced_code_goes_when_it_is_released_and_current_code_stays(tmp_path: Path) -> None:
    registry = opened(tmp_path)
    first = registry.store_zip("orders", zip_of({"app.py": "x = 1"}))
    registry.create("orders", handler="app.handler", code=first)
    second = registry.store_zip("orders", zip_of({"app.py": "x = 2"}))
    registry.replace("orders", code=second)
    registry.release("orders", second)
    registry.release("orders", first)
    left = sorted(path.name for path in (tmp_path / "code" / "orders").iterdir())
    assert left == [second.id, f"{second.id}.zip"]
    deleted = registry.delete("orders")
    registry.release("orders", deleted.code)
    assert list((tmp_path / "code" / "orders").iterdir()) == []


def test_a_rejected_zip_leaves_nothing(tmp_path: Path) -> None:
    registry = opened(tmp_path)
    with pytest.raises(InvalidArchive):
        registry.store_zip("orders", b"no zip")
    assert not list((tmp_path / "code").rglob("*.zip"))


def test_what_a_crash_left_behind_is_removed_at_the_next_start(tmp_path: Path) -> None:
    registry = opened(tmp_path)
    code = registry.store_zip("orders", zip_of({"app.py": ""}))
    registry.create("orders", handler="app.handler", code=code)
    registry.store_zip("orders", zip_of({"app.py": ""}))  # an update that was killed before it was written
    registry.store_zip("never", zip_of({"app.py": ""}))  # a create that was
    (tmp_path / "functions" / "orders.tmp").write_text("{")
    opened(tmp_path)
    assert sorted(path.name for path in (tmp_path / "code").iterdir()) == ["orders"]
    assert len(list((tmp_path / "code" / "orders").iterdir())) == 2
    assert [path.name for path in (tmp_path / "functions").iterdir()] == ["orders.json"]


def test_a_document_that_can_not_be_read_is_kept_with_its_code(tmp_path: Path) -> None:
    registry = opened(tmp_path)
    code = registry.store_zip("orders", zip_of({"app.py": ""}))
    registry.create("orders", handler="app.handler", code=code)
    (tmp_path / "functions" / "orders.json").write_text('{"name": "orders"')
    assert opened(tmp_path).all() == []
    assert (tmp_path / "functions" / "orders.json").exists()
    assert (tmp_path / "code" / "orders" / code.id).exists()


def test_the_arn_follows_the_region_that_the_server_has_now(tmp_path: Path) -> None:
    opened(tmp_path).create("orders", handler="a.b", code=LOCAL)
    found = opened(tmp_path, region="eu-west-1").get("orders")
    assert found is not None
    assert found.arn == "arn:aws:lambda:eu-west-1:123456789012:function:orders"


def test_edits_of_code_in_place_are_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "code in place"
    folder.mkdir()
    (folder / "app.py").write_text("x = 1")
    registry = opened(tmp_path / "data")
    made = registry.create("orders", handler="app.handler", code=LocalCode(folder=str(folder)))
    assert not registry.reread("orders")
    assert registry.get("orders") is made
    (folder / "app.py").write_text("x = 22")
    assert registry.reread("orders")
    edited = registry.get("orders")
    assert edited is not None
    assert edited.revision_id != made.revision_id
    assert edited.last_modified_ms >= made.last_modified_ms
    assert not registry.reread("nothing")


def test_only_python_files_that_can_be_the_handlers_count(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("")
    (tmp_path / "package").mkdir()
    before = fingerprint(tmp_path)
    for ignored in (".git/hook.py", "__pycache__/app.py", "node_modules/tool.py", "notes.txt"):
        path = tmp_path / ignored
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    assert fingerprint(tmp_path) == before
    (tmp_path / "package" / "part.py").write_text("")
    assert fingerprint(tmp_path) != before
    assert fingerprint(tmp_path / "gone") == 0


def test_code_in_place_is_a_file_and_its_function_or_a_folder_and_a_handler(tmp_path: Path) -> None:
    path = tmp_path / "orders.py"
    path.write_text("")
    folder = LocalCode(folder=str(tmp_path))
    assert local_code(str(path), "handle") == (folder, "orders.handle")
    assert local_code(str(path), "orders.handle") == (folder, "orders.handle")
    assert local_code(str(tmp_path), "orders.handle") == (folder, "orders.handle")
    (tmp_path / "not-a-module.py").write_text("")
    for wrong, handler in (
        ("orders.py", "h"),
        (str(tmp_path), "h"),
        (str(tmp_path / "not-a-module.py"), "h"),
    ):
        with pytest.raises(InvalidFunction):
            local_code(wrong, handler)


@pytest.mark.parametrize(
    ("written", "damaged"),
    [(b'"orders"', b'{"x": 1}'), (b'"orders"', b'"../orders"'), (b'"app.handler"', b"[1]")],
    ids=["name", "path", "handler"],
)
def test_a_document_with_a_wrong_member_costs_its_own_function_only(
    tmp_path: Path, written: bytes, damaged: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    registry = opened(tmp_path)
    code = registry.store_zip("orders", zip_of({"app.py": "x = 1"}))
    registry.create("orders", handler="app.handler", code=code)
    registry.create("parcels", handler="a.b", code=LOCAL)
    document = tmp_path / "functions" / "orders.json"
    assert written in document.read_bytes()
    document.write_bytes(document.read_bytes().replace(written, damaged))

    assert [function.name for function in opened(tmp_path).all()] == ["parcels"]
    assert f"function not loaded file={document} reason=" in caplog.text
    assert (tmp_path / "code" / "orders" / code.id / "app.py").exists()


@pytest.mark.parametrize("content", [b"", b"{", b"null", b"5", b"[]", b"\xff\xfe", b'{"name": "orders"}'])
def test_a_damaged_document_costs_its_own_function_only(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    registry = opened(tmp_path)
    code = registry.store_zip("orders", zip_of({"app.py": "x = 1"}))
    registry.create("orders", handler="app.handler", code=code)
    registry.create("parcels", handler="a.b", code=LOCAL)
    document = tmp_path / "functions" / "orders.json"
    document.write_bytes(content)
    again = opened(tmp_path)
    assert [function.name for function in again.all()] == ["parcels"]
    assert f"function not loaded file={document} reason=" in caplog.text
    assert "restore a backup of the file, or remove it and register the function again" in caplog.text
    assert document.read_bytes() == content
    assert (tmp_path / "code" / "orders" / code.id / "app.py").exists()


def test_a_function_whose_code_is_gone_is_reported_at_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    registry = opened(tmp_path)
    code = registry.store_zip("orders", zip_of({"app.py": "x = 1"}))
    made = registry.create("orders", handler="app.handler", code=code)
    remove_tree(registry.folder(made))
    assert opened(tmp_path).get("orders") is not None
    assert f"function without code function=orders folder={registry.folder(made)}" in caplog.text


def test_damaged_attachments_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    registry = opened(tmp_path)
    registry.create("parcels", handler="a.b", code=LOCAL)
    file = tmp_path / "attached" / "parcels.json"
    file.write_bytes(b"")
    assert opened(tmp_path).get("parcels") is not None
    assert f"attachments not loaded file={file}" in caplog.text


class Killed(BaseException):
    """Ends the test's process, as far as the registry can tell."""


def change_tags(functions: Registry) -> None:
    functions.attached.put("orders", tags={"team": "y"})


def change(functions: Registry) -> None:
    functions.replace("orders", timeout_s=9)


def publish(functions: Registry) -> None:
    functions.publish("orders")


def delete(functions: Registry) -> None:
    functions.delete("orders:1")
    functions.delete("orders")


@pytest.mark.parametrize("write", [change_tags, change, publish, delete])
@pytest.mark.parametrize("step", range(4))
def test_a_kill_at_any_step_of_a_change_leaves_what_can_be_read_and_made_again(
    write: Callable[[Registry], None], step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    functions = opened(tmp_path)
    functions.create("orders", handler="a.b", code=LOCAL)
    functions.attached.put("orders", tags={"team": "x"})
    functions.publish("orders")
    functions.replace("orders", timeout_s=5)
    steps = 0

    def dying(do: Callable[..., None]) -> Callable[..., None]:
        def done(*arguments: object) -> None:
            nonlocal steps
            if steps == step:
                raise Killed
            steps += 1
            do(*arguments)

        return done

    with monkeypatch.context() as patched:
        for module in (registry, attached):
            for name in ("write_document", "remove_document"):
                patched.setattr(module, name, dying(getattr(module, name)))
        with contextlib.suppress(Killed):
            write(functions)

    functions = opened(tmp_path)
    assert [function.name for function in functions.all()] in (["orders"], [])
    if functions.get("orders") is None:
        functions.create("orders", handler="a.b", code=LOCAL)
        assert functions.attached.get("orders").tags == {}
    before = [int(function.version) for function in functions.versions("orders")]
    number = int(functions.publish("orders").version)
    assert number >= max(before, default=0)
    write(functions) if write is not delete else functions.delete("orders")
