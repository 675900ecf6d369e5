# SPDX-License-Identifier: Apache-2.0
"""The metadata of one request: which values are possible, and what is written to the store."""

from typing import Any

import pytest

from apisix.runner.call.metadata_store import MemoryMetadata
from apisix.runner.errors import CallCancelled, MetadataError
from apisix.runner.http.metadata import MAX_BYTES, Metadata


@pytest.fixture
def store() -> MemoryMetadata:
    """An empty store."""
    return MemoryMetadata()


def test_later_phase_sees_what_was_written(store: MemoryMetadata) -> None:
    """What one phase has assigned or deleted, the next one reads."""
    first = Metadata(store, "r1")
    first["user"] = {"name": "jack", "groups": ["a", "b"], "age": 5, "rate": 0.5, "admin": False, "boss": None}
    first["gone"] = 1
    del first["gone"]
    first.end(is_last=False)

    second = Metadata(store, "r1")

    assert dict(second) == {"user": {"name": "jack", "groups": ["a", "b"], "age": 5, "rate": 0.5, "admin": False, "boss": None}}
    assert dict(Metadata(store, "r2")) == {}


def test_text_that_is_not_unicode(store: MemoryMetadata) -> None:
    """Text of headers that is not UTF-8 is kept."""
    first = Metadata(store, "r1")
    first["x"] = "\udcff"
    first.end(is_last=False)

    assert Metadata(store, "r1")["x"] == "\udcff"


def test_change_inside_a_value(store: MemoryMetadata) -> None:
    """A list that was read can be changed in place."""
    first = Metadata(store, "r1")
    first["steps"] = ["a"]
    first.end(is_last=False)
    second = Metadata(store, "r1")
    second["steps"].append("b")
    second.end(is_last=False)

    assert Metadata(store, "r1")["steps"] == ["a", "b"]


def test_assigned_value_is_a_copy(store: MemoryMetadata) -> None:
    """A value is at once what other phases will read."""
    values = (1, 2)
    metadata = Metadata(store, "r1")
    metadata["x"] = {"values": values, 5: "five"}

    assert metadata["x"] == {"values": [1, 2], "5": "five"}


class Counting(MemoryMetadata):
    """Counts what is written and removed."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[str] = []

    def put(self, request_id: str, data: bytes) -> None:
        """Count, and store."""
        self.done.append("put")
        super().put(request_id, data)

    def delete(self, request_id: str) -> None:
        """Count, and remove."""
        self.done.append("delete")
        super().delete(request_id)


def test_only_changes_are_written() -> None:
    """Metadata that was only read, or got its old value, is not written. An entry that does not exist is not removed."""
    store = Counting()
    Metadata(store, "r1").end(is_last=False)
    Metadata(store, "r1").end(is_last=True)
    first = Metadata(store, "r1")
    first["a"] = [1]
    first.end(is_last=False)
    second = Metadata(store, "r1")
    second["a"] = [1]
    second.end(is_last=False)

    assert store.done == ["put"]


def test_last_phase_removes_the_entry() -> None:
    """In the last phase nothing is written, and the entry is removed. It is also removed if nothing is left in it."""
    store = Counting()
    for name in ("r1", "r2"):
        first = Metadata(store, name)
        first["a"] = 1
        first.end(is_last=False)
    last = Metadata(store, "r1")
    last["b"] = 2
    last.end(is_last=True)
    emptied = Metadata(store, "r2")
    emptied.clear()
    emptied.end(is_last=False)

    assert (store.done, len(store)) == (["put", "put", "delete", "delete"], 0)


CIRCULAR: list[Any] = []
CIRCULAR.append(CIRCULAR)
DEEP: Any = 0
for _ in range(100_000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (b"bytes", TypeError),
        ({1, 2}, TypeError),
        (object(), TypeError),
        ({"a": {"b": object()}}, TypeError),
        (float("nan"), ValueError),
        (CIRCULAR, ValueError),
        ("x" * MAX_BYTES, ValueError),
    ],
    ids=["bytes", "set", "object", "object inside", "nan", "circular", "too large"],
)
def test_value_that_is_not_possible(store: MemoryMetadata, value: object, error: type[Exception]) -> None:
    """The line that assigns the value raises an error, and the old value stays."""
    metadata = Metadata(store, "r1")
    metadata["x"] = "old"
    with pytest.raises(error, match="metadata\\['x'\\]"):
        metadata["x"] = value
    metadata.end(is_last=False)

    assert dict(Metadata(store, "r1")) == {"x": "old"}


def test_value_that_is_nested_too_deeply(store: MemoryMetadata) -> None:
    """A list that is nested too deeply for JSON is refused."""
    with pytest.raises(ValueError, match="can't be written as JSON"):
        Metadata(store, "r1")["x"] = DEEP


def test_name_that_is_not_possible(store: MemoryMetadata) -> None:
    """Names are str."""
    with pytest.raises(TypeError, match="must be a str, not int"):
        Metadata(store, "r1")[5] = "x"  # type: ignore[index]


def test_size_of_all_values_together(store: MemoryMetadata) -> None:
    """The limit is for the whole request, in all its phases. A value that replaces another counts once."""
    first = Metadata(store, "r1")
    first["a"] = "x" * (MAX_BYTES // 2)
    first["a"] = "y" * (MAX_BYTES // 2)
    first.end(is_last=False)
    second = Metadata(store, "r1")
    second["b"] = "x" * (MAX_BYTES // 4)
    with pytest.raises(ValueError, match="all metadata of the request would have"):
        second["c"] = "x" * (MAX_BYTES // 4)
    del second["a"]
    second["c"] = "x" * (MAX_BYTES // 4)
    second.end(is_last=False)

    assert set(Metadata(store, "r1")) == {"b", "c"}


def test_as_many_bytes_as_possible(store: MemoryMetadata) -> None:
    """What could be assigned can be written."""
    metadata = Metadata(store, "r1")
    metadata["x"] = "x" * (MAX_BYTES - len('"x":,""'))
    metadata.end(is_last=False)

    assert len(Metadata(store, "r1")["x"]) == MAX_BYTES - 7


class User:
    """The call whose plugins use the metadata."""

    plugin: str | None = None


@pytest.mark.parametrize(
    ("added", "problem"),
    [
        (object(), "can't be written as JSON: Object of type object is not JSON serializable"),
        (float("nan"), "can't be written as JSON: Out of range float values are not JSON compliant"),
        ("x" * MAX_BYTES, "has 65540 bytes as JSON, and all metadata of the request has 65570, but at most 65536 are possible"),
    ],
    ids=["object", "nan", "too large"],
)
def test_list_that_was_changed_to_something_impossible(store: MemoryMetadata, added: object, problem: str) -> None:
    """
    A change inside a value is only found when the chain has ended. Nothing is written then.

    The error names the value, and the plugins that got it after it was assigned.
    """
    user = User()
    metadata = Metadata(store, "r1", user)
    user.plugin = "first"
    metadata["good"] = ["a long value"]
    metadata["x"] = []
    assert [metadata["good"], metadata["x"]] == [["a long value"], []]
    metadata["x"] = []
    for user.plugin in ("second", "third", "second"):
        assert metadata["x"] == []
    metadata["x"].append(added)
    user.plugin = None
    with pytest.raises(MetadataError) as raised:
        metadata.end(is_last=False)

    assert (raised.value.place, raised.value.plugins) == ("metadata['x']", ("second", "third"))
    assert raised.value.problem.startswith(problem)
    assert str(raised.value) == (
        f"metadata['x'] {raised.value.problem}. It was changed in place by plugin second or third. Assign the changed value to "
        "metadata['x'], and the line that does it raises the error"
    )
    assert dict(Metadata(store, "r1")) == {}


def test_change_in_place_does_not_fail_another_assignment(store: MemoryMetadata) -> None:
    """The line that assigns a good value does not raise an error because of a value that another plugin has changed in place."""
    first = Metadata(store, "r1")
    first["tags"] = []
    first.end(is_last=False)
    second = Metadata(store, "r1")
    second["tags"].append(object())
    second["user"] = "jack"
    with pytest.raises(MetadataError, match=r"metadata\['tags'\] can't be written as JSON"):
        second.end(is_last=False)


def test_change_in_place_that_was_undone(store: MemoryMetadata) -> None:
    """Only the values at the end count."""
    metadata = Metadata(store, "r1")
    metadata["a"], metadata["b"], metadata["c"] = [], [], []
    for name in "abc":
        metadata[name].append(object())
    metadata["a"].clear()
    metadata["b"] = [1]
    del metadata["c"]
    metadata.end(is_last=False)

    assert dict(Metadata(store, "r1")) == {"a": [], "b": [1]}


def test_change_after_the_end(store: MemoryMetadata) -> None:
    """A thread or a task that outlives its call can read, but a change raises an error instead of getting lost."""
    metadata = Metadata(store, "r1")
    metadata["x"] = 1
    metadata.end(is_last=False)
    with pytest.raises(CallCancelled):
        metadata["x"] = 2
    with pytest.raises(CallCancelled):
        del metadata["x"]

    assert metadata["x"] == 1


def test_representation_has_no_values(store: MemoryMetadata) -> None:
    """Values may be secret."""
    metadata = Metadata(store, "r1")
    before = repr(metadata)
    metadata["email"] = "jack@example.com"
    metadata["user"] = "jack"

    assert (before, repr(metadata)) == ("<metadata of a request, names: none>", "<metadata of a request, names: email, user>")
