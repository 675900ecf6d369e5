# SPDX-License-Identifier: Apache-2.0
"""Where settings are loaded from, which source has priority, and the message if a setting is wrong."""

import os
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from apisix.runner.errors import SettingsError
from apisix.runner.settings.kinds import COUNT, COUNT_OR_AUTO, DURATION, SIZE
from apisix.runner.settings.loading import default_config_file, load
from apisix.runner.settings.table import SETTINGS, Setting, Settings

NAMES = {
    section: ", ".join(row.key.partition(".")[2] for row in rows)
    for section, rows in groupby(SETTINGS, lambda row: row.key.partition(".")[0])
}
"""The names of the settings, by section."""


def from_file(tmp_path: Path, text: str, *, flags: dict[str, object] | None = None, environ: dict[str, str] | None = None) -> Settings:
    file = tmp_path / "config.yaml"
    file.write_text(text, encoding="utf-8")
    return load(file, flags or {}, environ or {})


def error_of(tmp_path: Path, text: str) -> str:
    """Return the error message for a file, without its directory."""
    with pytest.raises(SettingsError) as caught:
        from_file(tmp_path, text)
    return str(caught.value).replace(f"{tmp_path}/", "")


def test_defaults() -> None:
    """Without any source, each setting has its documented default."""
    settings = load(None, {}, {})

    assert settings == Settings()
    assert (
        settings.socket_file,
        settings.socket_mode,
        settings.log_level,
        settings.workers,
        settings.plugin_timeout_s,
    ) == ("/tmp/runner.sock", None, "info", 1, 50.0)  # noqa: S108  # the documented default
    assert (
        settings.max_in_flight,
        settings.blocking_threads,
        settings.worker_timeout_s,
        settings.shutdown_timeout_s,
        settings.conf_expire_s,
        settings.conf_store_max_entries,
    ) == (1000, 32, 60.0, None, 3600.0, 100_000)


def test_flag_over_environment_over_file_over_default(tmp_path: Path) -> None:
    """Each source has priority over the following ones."""
    text = "logging: {level: error}"
    environ = {"APISIX_RUNNER_LOGGING_LEVEL": "warn"}

    assert from_file(tmp_path, "").log_level == "info"
    assert from_file(tmp_path, text).log_level == "error"
    assert from_file(tmp_path, text, environ=environ).log_level == "warn"
    assert from_file(tmp_path, text, environ=environ, flags={"log_level": "debug"}).log_level == "debug"


def test_absent_flags_and_empty_variables(tmp_path: Path) -> None:
    """The value of click for a missing flag, and an empty variable, count as not given."""
    flags: dict[str, object] = {"log_level": None, "plugins": (), "reload": False}
    settings = from_file(
        tmp_path,
        "logging: {level: error}\nplugins: {directories: [/a]}\nworkers: {reload: true}",
        flags=flags,
        environ={"APISIX_RUNNER_LOGGING_LEVEL": "", "APISIX_LISTEN_ADDRESS": ""},
    )

    assert (settings.log_level, settings.plugins, settings.reload) == ("error", ("/a",), True)


@pytest.mark.parametrize("address", ["unix:/run/apisix.sock", "/run/apisix.sock"])
def test_configuration_of_release_02(tmp_path: Path, address: str) -> None:
    """The file of release 0.2 works, with and without `unix:` before the path."""
    text = "socket:\n  file: $env.APISIX_LISTEN_ADDRESS # Environment variable or absolute path\nlogging:\n  level: warn\n"

    settings = from_file(tmp_path, text, environ={"APISIX_LISTEN_ADDRESS": address})

    assert (settings.socket_file, settings.log_level, settings.notes) == ("/run/apisix.sock", "warn", ())


def test_variable_that_is_not_set(tmp_path: Path) -> None:
    """If the variable that the file names is not set, the default is used, as in release 0.2, and the log reports it."""
    settings = from_file(tmp_path, "socket: {file: $env.NOWHERE}")

    assert Settings().socket_file == settings.socket_file
    assert list(settings.notes) == [
        f"{tmp_path}/config.yaml, line 1: socket.file is $env.NOWHERE, which is not set, so the default '/tmp/runner.sock' is used"
    ]


def test_unset_variable_with_a_flag(tmp_path: Path) -> None:
    """If a flag has priority, an unset variable in the file is not reported."""
    settings = from_file(tmp_path, "socket: {file: $env.NOWHERE}", flags={"socket_file": "/run/x.sock"})

    assert (settings.socket_file, settings.notes) == ("/run/x.sock", ())


def test_note_if_the_gateways_variable_replaces_the_file(tmp_path: Path) -> None:
    """If the file of release 0.2 has another path than the gateway, the path of the gateway is used, and a note reports it."""
    text = "socket:\n  file: /run/mine.sock\n"
    settings = from_file(tmp_path, text, environ={"APISIX_LISTEN_ADDRESS": "unix:/run/gateway.sock"})

    assert settings.socket_file == "/run/gateway.sock"
    assert settings.notes == (
        "socket.file is '/run/gateway.sock' from environment variable APISIX_LISTEN_ADDRESS, and not "
        f"'/run/mine.sock' from {tmp_path}/config.yaml, line 2",
    )
    assert from_file(tmp_path, text, environ={"APISIX_LISTEN_ADDRESS": "unix:/run/mine.sock"}).notes == ()
    assert from_file(tmp_path, text, environ={"APISIX_RUNNER_SOCKET_FILE": "/run/gateway.sock"}).notes == ()
    assert from_file(tmp_path, text, flags={"socket_file": "/run/x.sock"}, environ={"APISIX_LISTEN_ADDRESS": "/run/y.sock"}).notes == ()


def test_variables_in_the_file(tmp_path: Path) -> None:
    """`$env.NAME` works for each key, not only for the socket."""
    settings = from_file(tmp_path, "limits: {plugin_timeout: $env.PATIENCE}", environ={"PATIENCE": "2s"})

    assert settings.plugin_timeout_s == 2.0


def test_lifetime_of_tokens() -> None:
    """The gateway's own variable is used. The runner's variable of the same setting has priority."""
    assert load(None, {}, {"APISIX_CONF_EXPIRE_TIME": "7200"}).conf_expire_s == 7200.0
    assert load(None, {}, {"APISIX_CONF_EXPIRE_TIME": "7200", "APISIX_RUNNER_CONF_STORE_EXPIRE_TIME": "1m"}).conf_expire_s == 60.0


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("limits: {plugin_timeout: 2}", "plugin_timeout_s", 2.0),
        ("limits: {plugin_timeout: 0.5}", "plugin_timeout_s", 0.5),
        ("limits: {plugin_timeout: 500ms}", "plugin_timeout_s", 0.5),
        ("limits: {plugin_timeout: 1 m}", "plugin_timeout_s", 60.0),
        ("limits: {max_decompressed_size: 65536}", "max_decompressed_bytes", 65536),
        ("limits: {max_decompressed_size: 64MiB}", "max_decompressed_bytes", 64 * 2**20),
        ("workers: {memory_limit: 1.5GiB}", "memory_limit_bytes", 3 * 2**29),
        ("socket: {mode: 0660}", "socket_mode", 0o660),
        ("socket: {mode: '0660'}", "socket_mode", 0o660),
        ("socket: {mode: 0o660}", "socket_mode", 0o660),
        ("socket: {mode: 660}", "socket_mode", 0o660),
        ("socket: {owner: 636}", "socket_owner", "636"),
        ("socket: {allow_users: [nobody, 636]}", "allow_users", ("nobody", "636")),
        ("socket: {allow_users: 'nobody, 636'}", "allow_users", ("nobody", "636")),
        ("logging: {level: WARNING}", "log_level", "warn"),
        ("logging: {level: Debug}", "log_level", "debug"),
        ("logging: {format: JSON}", "log_format", "json"),
        ("logging: {file: /var/log/runner.log}", "log_file", "/var/log/runner.log"),
        ("workers: {count: 4}", "workers", 4),
        ("workers: {count: auto}", "workers", "auto"),
        ("workers: {reload: on}", "reload", True),
        ("metrics: {address: 127.0.0.1:9092}", "metrics_address", "127.0.0.1:9092"),
        ("metrics: {address: '[::1]:9092'}", "metrics_address", "[::1]:9092"),
        ("metrics: {address: 'localhost:0'}", "metrics_address", "localhost:0"),
        ("plugins: {modules: [one.plugins, two]}", "plugin_modules", ("one.plugins", "two")),
        ("plugins: {on_error: pass}", "on_error", "pass"),
        ("logging:\nworkers:\n  count: 2", "workers", 2),
    ],
)
def test_forms_of_values(tmp_path: Path, text: str, name: str, value: object) -> None:
    """Each kind of value can be written in its usual forms, and is converted to its type."""
    assert getattr(from_file(tmp_path, text), name) == value


@pytest.mark.parametrize(
    "address", ["9092", ":9092", "localhost", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "::1:9092", "[127.0.0.1]:1", "a.b:1"]
)
def test_wrong_addresses(tmp_path: Path, address: str) -> None:
    """An address consists of a literal host and a port. Host names other than localhost are refused."""
    said = error_of(tmp_path, f"metrics: {{address: '{address}'}}")

    assert f"metrics.address is '{address}', but must be an address and a port, as in 127.0.0.1:9092 or [::1]:9092" in said


def test_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path refers to the directory of the file or, outside the file, to the current directory."""
    monkeypatch.chdir("/")
    text = "plugins: {directories: [plugins, /srv/plugins]}"

    assert from_file(tmp_path, text).plugins == (f"{tmp_path}/plugins", "/srv/plugins")
    assert from_file(tmp_path, text, flags={"plugins": ("plugins",)}).plugins == ("/plugins",)
    assert from_file(tmp_path, text, environ={"APISIX_RUNNER_PLUGINS_DIRECTORIES": "a:/b"}).plugins == ("/a", "/b")
    assert load(None, {"socket_file": "runner.sock"}, {}).socket_file == "/runner.sock"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("logging:\n  level: loud", "config.yaml, line 2: logging.level is 'loud', but must be one of error, warn, info or debug"),
        ("logging: {levle: info}", "config.yaml, line 1: there is no setting logging.levle; did you mean logging.level?"),
        ("plugin_timeout: 3", "config.yaml, line 1: there is no setting plugin_timeout; did you mean limits.plugin_timeout?"),
        (
            "workers: {plugin_timeout: 3}",
            "config.yaml, line 1: there is no setting workers.plugin_timeout; did you mean limits.plugin_timeout?",
        ),
        ("sockets: {file: /x}", "config.yaml, line 1: there is no setting sockets; did you mean socket?"),
        ("nothing: 1", f"config.yaml, line 1: there is no setting nothing; the sections are {', '.join(NAMES)}"),
        (
            "socket: {file: runner.sock}",
            "config.yaml, line 1: socket.file is 'runner.sock', but must be an absolute path, with or without unix: before it",
        ),
        (
            "state: {prefix: 'staging:'}",
            "config.yaml, line 1: state.prefix is 'staging:', but must be 1 to 64 letters, digits, dots, hyphens or underscores",
        ),
        ("socket: {mode: '0899'}", "config.yaml, line 1: socket.mode is '0899', but must be a file mode in octal, as in 0660"),
        ("socket: {mode: '7777'}", "config.yaml, line 1: socket.mode is '7777', but must be a file mode in octal, as in 0660"),
        (
            "limits: {plugin_timeout: 0}",
            "config.yaml, line 1: limits.plugin_timeout is '0', but must be a duration above 0 and up to 31536000: "
            "seconds, or as in 500ms, 2s, 1m, 1h",
        ),
        (
            "limits: {plugin_timeout: 2 weeks}",
            "config.yaml, line 1: limits.plugin_timeout is '2 weeks', but must be a duration above 0 and up to 31536000: "
            "seconds, or as in 500ms, 2s, 1m, 1h",
        ),
        ("limits: {max_in_flight: 0}", "config.yaml, line 1: limits.max_in_flight is '0', but must be a whole number from 1 to 1000000000"),
        (
            "limits: {blocking_threads: -5}",
            "config.yaml, line 1: limits.blocking_threads is '-5', but must be a whole number from 1 to 10000",
        ),
        ("workers: {count: many}", "config.yaml, line 1: workers.count is 'many', but must be auto or a whole number from 1 to 10000"),
        ("workers: {reload: maybe}", "config.yaml, line 1: workers.reload is 'maybe', but must be true or false"),
        (
            "workers: {memory_limit: 5 bananas}",
            "config.yaml, line 1: workers.memory_limit is '5 bananas', but must be a size from 0 to 17592186044416: "
            "bytes, or as in 64KiB, 64MiB, 2GiB",
        ),
        ("logging: {level: [info]}", "config.yaml, line 1: logging.level is ['info'], but must be one of error, warn, info or debug"),
        ("logging: {level: {a: b}}", "config.yaml, line 1: logging.level must be a value or a list of values, not a mapping"),
        ("logging: info", f"config.yaml, line 1: logging must be a mapping with the keys {NAMES['logging']}, not a value"),
        ("- logging", "config.yaml, line 1: this must be a mapping of sections, not a list"),
        ("? [a]\n: b", "config.yaml, line 1: a key must be a name, not a list"),
        ("socket:\n  file: /a\n  file: /b", "config.yaml, line 3: socket.file is given here a second time; keep one of the two"),
        ("socket: {}\nlogging: {}\nsocket: {}", "config.yaml, line 3: socket is given here a second time; keep one of the two"),
        ("socket: {", "config.yaml, line 2: this is not YAML: did not find expected node content"),
        ("socket: &a {file: *a}", "config.yaml, line 1: socket.file must be a value or a list of values, not a mapping"),
        ('logging: {file: "a\\0b"}', "config.yaml, line 1: logging.file is 'a\\x00b', but must be a path"),
    ],
)
def test_mistakes_in_the_file(tmp_path: Path, text: str, sentence: str) -> None:
    """The error message is one sentence with the file, the line, the key, and the allowed values."""
    assert error_of(tmp_path, text) == sentence


def test_tags_have_no_effect(tmp_path: Path) -> None:
    """Tags have no effect, so that a file can't call functions."""
    assert (
        error_of(tmp_path, "logging: {level: !!python/object/apply:os._exit exit}")
        == "config.yaml, line 1: logging.level is 'exit', but must be one of error, warn, info or debug"
    )


@pytest.mark.parametrize(
    ("flags", "environ", "sentence"),
    [
        ({"workers": "x"}, {}, "--workers: workers.count is 'x', but must be auto or a whole number from 1 to 10000"),
        (
            {"plugins": ("",)},
            {},
            "--plugins: plugins.directories is [''], but must be a list of directories, or one string with : between them",
        ),
        (
            {},
            {"APISIX_LISTEN_ADDRESS": "unix:x"},
            "environment variable APISIX_LISTEN_ADDRESS: "
            "socket.file is 'unix:x', but must be an absolute path, with or without unix: before it",
        ),
    ],
)
def test_mistakes_elsewhere(flags: dict[str, object], environ: dict[str, str], sentence: str) -> None:
    """The error message names the flag or the variable."""
    with pytest.raises(SettingsError) as caught:
        load(None, flags, environ)

    assert str(caught.value) == sentence


def test_mistake_in_the_file_despite_a_flag(tmp_path: Path) -> None:
    """A wrong value in the file is an error, even if a flag has priority."""
    with pytest.raises(SettingsError, match="loud"):
        from_file(tmp_path, "logging: {level: loud}", flags={"log_level": "info"})


def test_a_file_that_is_a_pipe(tmp_path: Path) -> None:
    """A pipe can be read only once, and would be empty at the next reload. It is refused before it is read."""
    pipe = tmp_path / "config.yaml"
    os.mkfifo(pipe)

    with pytest.raises(SettingsError, match="is a pipe or a device"):
        load(pipe, {}, {})


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (lambda file: None, "No such file or directory"),
        (lambda file: file.mkdir(), "Is a directory"),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, prepare: Any, reason: str) -> None:
    """If a named file can't be read, this is an error."""
    file = tmp_path / "config.yaml"
    prepare(file)

    with pytest.raises(SettingsError) as caught:
        load(file, {}, {})

    assert str(caught.value) == f"the configuration file {file} can't be read: {reason}"


def test_wrong_encoding(tmp_path: Path) -> None:
    """A file whose encoding is not one of YAML is refused."""
    file = tmp_path / "config.yaml"
    file.write_bytes(b"socket: {file: /\xff}")

    with pytest.raises(SettingsError, match="this is not YAML"):
        load(file, {}, {})


def test_default_config_file() -> None:
    """The default file is `conf/config.yaml` of the checkout, if it exists, and otherwise `apisix/config.yaml`."""
    checkout = Path(__file__).resolve().parent.parent.parent
    of_release_02 = checkout / "conf" / "config.yaml"

    assert default_config_file() == (of_release_02 if of_release_02.exists() else checkout / "apisix" / "config.yaml")


NUMBERS = [row for row in SETTINGS if row.kind in (COUNT, COUNT_OR_AUTO, DURATION, SIZE)]


@pytest.mark.parametrize("text", ["9" * 15, "9" * 400, "9" * 5000])
@pytest.mark.parametrize("row", NUMBERS, ids=lambda row: row.key)
def test_each_number_has_an_upper_bound(row: Setting, text: str) -> None:
    """A number that is too large is refused with the usual message, even if it has many digits."""
    variable = row.variables[0]
    with pytest.raises(SettingsError) as caught:
        load(None, {}, {variable: text})

    assert str(caught.value) == f"environment variable {variable}: {row.key} is '{text}', but must be {row.allowed}"
    assert " to " in row.allowed


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("APISIX_RUNNER_WORKER_COUNT", "did you mean APISIX_RUNNER_WORKERS_COUNT?"),
        ("APISIX_RUNNER_CONFG", "did you mean APISIX_RUNNER_CONFIG?"),
        ("APISIX_RUNNER_BANANA", "docs/reference/settings.md lists the variables of settings"),
    ],
)
def test_unknown_variable(name: str, advice: str) -> None:
    """A note reports an unknown variable, and the most similar one."""
    expected = f"environment variable {name} has no effect, because there is no setting of that name; {advice}"

    assert load(None, {}, {name: "4", "APISIX_RUNNER_WORKERS_COUNT": "2"}).notes == (expected,)


OF_KUBERNETES = ["SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_METRICS", "PORT", "PORT_9092_TCP", "METRICS_PORT_9092_TCP_ADDR"]


@pytest.mark.parametrize("name", OF_KUBERNETES)
def test_variables_of_kubernetes(name: str) -> None:
    """The variables that Kubernetes sets for a service named apisix-runner, and those that are read elsewhere, are not reported."""
    environ = {f"APISIX_RUNNER_{name}": "x", "APISIX_RUNNER_CONFIG": "x", "APISIX_RUNNER_PURE": "1", "APISIX_RUNNER_BUILD": "never"}
    assert load(None, {}, environ).notes == ()


@pytest.mark.parametrize(
    ("text", "content", "name", "value"),
    [
        ("metrics:\n  address: file:value\n", b"127.0.0.1:9092\n", "metrics_address", "127.0.0.1:9092"),
        ("metrics: {address: 'file:value'}", b"127.0.0.1:9092", "metrics_address", "127.0.0.1:9092"),
        ("workers: {count: 'file:value'}", b"3\n", "workers", 3),
        ("socket: {file: 'file:value'}", b"unix:/run/a.sock\n", "socket_file", "/run/a.sock"),
        ("record: {redact: 'file:value'}", b"one, two\n", "record_redact", ("one", "two")),
        ("record: {redact: [one, 'file:value']}", b"two, with a comma\n", "record_redact", ("one", "two, with a comma")),
        ("record: {redact: 'file:value'}", b"\n", "record_redact", ()),
    ],
)
def test_value_in_a_file(tmp_path: Path, text: str, content: bytes, name: str, value: object) -> None:
    """After `file:`, a relative path starts at the directory of the configuration file, and one newline at the end is removed."""
    (tmp_path / "value").write_bytes(content)

    assert getattr(from_file(tmp_path, text), name) == value


def test_value_in_a_file_that_a_variable_names(tmp_path: Path) -> None:
    """A variable can name the file, also one to which the configuration file refers."""
    (tmp_path / "value").write_text("3\n")

    assert load(None, {}, {"APISIX_RUNNER_WORKERS_COUNT": f"file:{tmp_path}/value"}).workers == 3
    assert from_file(tmp_path, "workers: {count: $env.COUNT}", environ={"COUNT": f"file:{tmp_path}/value"}).workers == 3


def test_flags_are_used_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory of plugins can begin with `file:` in a flag, and elsewhere with `./` before it."""
    monkeypatch.chdir(tmp_path)

    assert load(None, {"plugins": ("file:a",)}, {}).plugins == (f"{tmp_path}/file:a",)
    assert from_file(tmp_path, "logging: {file: './file:a'}").log_file == f"{tmp_path}/file:a"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "workers.count is to be read from value, but there is no such file"),
        ("directory", "workers.count is to be read from value, but this is not a regular file, or it can't be accessed"),
        ("pipe", "workers.count is to be read from value, but this is not a regular file, or it can't be accessed"),
        (b"x" * 65_537, "workers.count can't be read from value, because it has more than 65536 bytes"),
        (b"\xff", "workers.count can't be read from value, because it is not UTF-8"),
    ],
)
def test_a_file_without_a_value(tmp_path: Path, content: object, reason: str) -> None:
    """The message names the setting and the file, and a pipe does not block the start."""
    path = tmp_path / "value"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        path.mkdir() if content == "directory" else os.mkfifo(path)

    assert error_of(tmp_path, "workers:\n  count: file:value\n") == f"config.yaml, line 2: {reason}"


@pytest.mark.parametrize("content", [b"secret", b"", b"3\n\n", b"secret\x00"])
def test_a_wrong_value_in_a_file_is_not_shown(tmp_path: Path, content: bytes) -> None:
    """The message has the setting, the file and the allowed values, but not the value, which may be secret."""
    (tmp_path / "value").write_bytes(content)

    assert error_of(tmp_path, "workers:\n  count: file:value\n") == (
        "config.yaml, line 2, file:value: the value of workers.count in the file is not allowed; "
        "it must be auto or a whole number from 1 to 10000"
    )


def test_a_replaced_value_in_a_file_is_not_shown(tmp_path: Path) -> None:
    """The note about the gateway's variable has the name of the file."""
    (tmp_path / "value").write_text("/run/mine.sock\n")
    settings = from_file(tmp_path, "socket:\n  file: file:value\n", environ={"APISIX_LISTEN_ADDRESS": "/run/gateway.sock"})

    assert settings.notes == (
        "socket.file is '/run/gateway.sock' from environment variable APISIX_LISTEN_ADDRESS, and not "
        f"'file:value' from {tmp_path}/config.yaml, line 2",
    )
