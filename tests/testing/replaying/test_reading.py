# SPDX-License-Identifier: Apache-2.0
"""Files of records, and the decorator that runs a test for each call."""

from pathlib import Path

import pytest

from apisix.testing import RecordFile, UnreadableRecord, records
from tests.testing.replaying.recording import client_of, write_records
from tests.testing.test_pytest_plugin import run_pytest

SAY = """
    def on_request(self, request):
        request.headers["x-say"] = "hello"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a file with a call of route#1 through `say`, and two of route#12 through `say` and `stop`."""
    with client_of(tmp_path / "plugins", say=SAY) as client:
        results = [client.get("/a?b=c", plugins=["say"], route_key="route#1#ext-plugin-pre-req#5")]
        results += [client.get("/d", plugins=["say", "stop"], route_key="route#12#ext-plugin-pre-req#5") for _ in range(2)]
        return write_records(tmp_path / "calls.jsonl", results)


def test_calls_have_their_configuration(file: Path) -> None:
    calls = list(RecordFile(file))

    assert [call.request_line for call in calls] == ["GET /a?b=c", "GET /d", "GET /d"]
    assert [[entry.name for entry in call.configuration.plugins] for call in calls if call.configuration] == [
        ["say"],
        ["say", "stop"],
        ["say", "stop"],
    ]


@pytest.mark.parametrize(
    ("route", "plugins", "expected"),
    [
        ("route#1", (), 1),
        ("route#1#ext-plugin-pre-req#5", (), 1),
        ("route", (), 3),
        ("route#2", (), 0),
        (None, ("stop",), 2),
        (None, ("say",), 3),
        (None, ("stop", "say"), 3),
        ("route#1", ("stop",), 0),
    ],
)
def test_some_of_the_calls(file: Path, route: str | None, plugins: tuple[str, ...], expected: int) -> None:
    assert len(list(RecordFile(file, route=route, plugins=plugins))) == expected


def test_an_incomplete_last_line_is_left_out_with_a_note(file: Path) -> None:
    """The recorder may still be writing it."""
    file.write_bytes(file.read_bytes()[:-20])
    records = RecordFile(file)

    assert len(list(records)) == 2
    assert records.notes == [f"{file}, line 5 is incomplete, so it was left out"]


def test_a_line_that_was_cut_off_is_left_out_with_a_note(file: Path) -> None:
    """The process that wrote it was killed, and another one continued."""
    first, second, *rest = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([first, second[:-20] + b"\n", *rest]))
    records = RecordFile(file)

    assert len(list(records)) == 2
    assert records.notes == [f"{file}, line 2 is incomplete, so it was left out"]


def test_a_line_that_is_not_a_record(file: Path) -> None:
    file.write_bytes(b"{}\n" + file.read_bytes())

    with pytest.raises(UnreadableRecord, match=r"calls\.jsonl, line 1: not a record"):
        list(RecordFile(file))


def test_a_call_before_its_configuration(file: Path) -> None:
    """As in a file whose first part was removed."""
    file.write_bytes(b"\n".join(file.read_bytes().splitlines()[1:]) + b"\n")

    assert [call.configuration is None for call in RecordFile(file)] == [True, False, False]


TEST = """
import apisix.testing


@apisix.testing.records("calls.jsonl", plugin="say")
def test_same(client, record):
    assert client.replay(record).differences == []
"""


@pytest.mark.process
def test_a_test_for_each_call(file: Path) -> None:
    """The file is found beside the test, wherever pytest was started. A failure shows what differs."""
    directory = file.parent
    (directory / "pytest.ini").write_text("[pytest]\n")
    (directory / "test_calls.py").write_text(TEST)
    arguments = ("--rootdir", ".", "-c", "pytest.ini", "--apisix-plugins", "plugins", "test_calls.py")

    ran = run_pytest(directory, *arguments)
    assert "3 passed" in ran.stdout, ran.stdout + ran.stderr

    say = directory / "plugins" / "say.py"
    say.write_text(say.read_text().replace("hello", "bye"))
    ran = run_pytest(directory, *arguments)
    assert "3 failed" in ran.stdout, ran.stdout + ran.stderr
    assert "edit of header x-say: hello -> bye" in ran.stdout


def test_a_test_without_calls_is_an_error(file: Path) -> None:
    """It would be skipped, and nobody would notice."""
    with pytest.raises(ValueError, match=r"contains no call with the route route#9 and plugin say"):
        records(file, route="route#9", plugin="say")
