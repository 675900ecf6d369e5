# SPDX-License-Identifier: Apache-2.0
"""
The files of deploy/compose fit together, and what runs without containers runs.

compose-spec.json is the file schema/compose-spec.json of https://github.com/compose-spec/compose-spec (Apache-2.0), commit 170098b.
"""

import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import yaml
from jsonschema import Draft7Validator

from apisix.runner.settings.loading import load
from apisix.runner.settings.table import Settings
from tests.dev_process import Dev
from tests.docs.pages import CHECKOUT
from tests.ports import reserved_port
from tests.runner_process import running

COMPOSE = CHECKOUT / "deploy" / "compose"
UID = "636"
"""The user of the official images of APISIX. Source: their Dockerfile."""
BUILT = ("deploy/docker/Dockerfile", "deploy/prometheus", "deploy/grafana")
"""What compose.yaml refers to outside of its directory."""


def read(name: str) -> Any:
    """Return the content of a YAML file of deploy/compose."""
    return yaml.safe_load((COMPOSE / name).read_text("utf-8"))


def services(*names: str) -> dict[str, dict[str, Any]]:
    """Return the services of compose files, merged as Compose does: mappings by key, volumes by their path in the container."""
    merged: dict[str, dict[str, Any]] = {}
    for name in names:
        for service, more in read(name)["services"].items():
            known = merged.setdefault(service, {})
            for key, value in more.items():
                if key == "volumes":
                    by_target = {volume.split(":")[1]: volume for volume in [*known.get(key, ()), *value]}
                    known[key] = list(by_target.values())
                else:
                    known[key] = {**known.get(key, {}), **value} if isinstance(value, dict) else value
    return merged


BASIC, OBSERVED = ("compose.yaml",), ("compose.yaml", "compose.observe.yaml")
BOTH = pytest.mark.parametrize("files", [BASIC, OBSERVED], ids=["basic", "observed"])


def mounts(service: dict[str, Any]) -> dict[str, str]:
    """Return the sources of a service's volumes, by the path in the container."""
    return {volume.split(":")[1]: volume.split(":")[0] for volume in service.get("volumes", ())}


def mounted(service: dict[str, Any], path: str) -> Path:
    """Return the file of this checkout that a service sees at `path`."""
    for target, source in mounts(service).items():
        if PurePosixPath(path).is_relative_to(target):
            return (COMPOSE / source / PurePosixPath(path).relative_to(target)).resolve()
    raise AssertionError(f"nothing is mounted at {path}: {service['volumes']}")


def settings_of(runner: dict[str, Any]) -> Settings:
    """Return the settings that the runner's container has."""
    command = runner["command"]
    file = mounted(runner, command[command.index("--config") + 1])
    return load(file, {}, runner.get("environment", {}))


def gateway_files(gateway: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return config.yaml and apisix.yaml of the gateway's container."""
    conf = "/usr/local/apisix/conf"
    config, routes = (mounted(gateway, f"{conf}/{name}") for name in ("config.yaml", "apisix.yaml"))
    assert routes.read_text("utf-8").splitlines()[-1] == "#END"
    return yaml.safe_load(config.read_text("utf-8")), yaml.safe_load(routes.read_text("utf-8"))


@pytest.mark.parametrize("name", OBSERVED)
def test_the_schema_of_compose_files(name: str) -> None:
    """Each file follows the schema of the Compose specification."""
    schema = json.loads(Path(__file__).with_name("compose-spec.json").read_text("utf-8"))

    problems = [error.message for error in Draft7Validator(schema).iter_errors(read(name))]

    assert problems == []


@BOTH
def test_what_is_mounted_exists(files: tuple[str, ...]) -> None:
    """Every source of a volume is in the checkout, or is a volume of the file."""
    volumes = read("compose.yaml")["volumes"]
    for name, service in services(*files).items():
        for source in mounts(service).values():
            path = (COMPOSE / source).resolve()
            is_built = str(path.relative_to(CHECKOUT)) in BUILT
            assert source in volumes or path.exists() or is_built, f"{name}: {source}"


@BOTH
def test_the_socket(files: tuple[str, ...]) -> None:
    """The gateway, the runner and its health check use one path, which is on a volume that both share and that their user owns."""
    found = services(*files)
    gateway, runner = found["gateway"], found["runner"]
    config, _ = gateway_files(gateway)
    path = config["ext-plugin"]["path_for_test"]
    check = runner["healthcheck"]["test"]
    shared = str(PurePosixPath(path).parent)

    assert settings_of(runner).socket_file == path
    assert check[check.index("--socket") + 1] == path
    assert mounts(gateway)[shared] == mounts(runner)[shared] == "socket"
    assert runner["user"] == f"{UID}:{UID}"
    options = {f"uid={UID}", f"gid={UID}", "mode=0755", "size=128m"}
    assert set(read("compose.yaml")["volumes"]["socket"]["driver_opts"]["o"].split(",")) == options
    assert float(runner["stop_grace_period"].removesuffix("s")) > 30.0  # workers.shutdown_timeout of a stand-alone runner
    assert settings_of(runner).shutdown_timeout_s is None


@BOTH
def test_the_plugins(files: tuple[str, ...]) -> None:
    """The directory of the plugins is mounted, and the gateway's list of plugins, if it has one, has all that the routes use."""
    found = services(*files)
    (directory,) = settings_of(found["runner"]).plugins
    config, routes = gateway_files(found["gateway"])
    used = {name for key in ("routes", "global_rules") for each in routes.get(key, ()) for name in each["plugins"]}

    assert mounted(found["runner"], directory) == COMPOSE / "plugins"
    assert used <= set(config.get("plugins", used))
    assert "ext-plugin-pre-req" in config.get("plugins", ["ext-plugin-pre-req"])


def test_both_gateways_have_the_same_routes() -> None:
    """The gateway that is observed has the same routes and the same runner."""
    basic, observed = (gateway_files(services(*files)["gateway"]) for files in (BASIC, OBSERVED))

    assert basic[1]["routes"] == observed[1]["routes"]
    assert basic[0].items() <= observed[0].items()


@BOTH
def test_the_upstream(files: tuple[str, ...]) -> None:
    """The upstream of the routes is a service, and listens on that port."""
    found = services(*files)
    server = mounted(found["upstream"], "/etc/nginx/conf.d/default.conf").read_text("utf-8")
    _, routes = gateway_files(found["gateway"])

    assert {node for route in routes["routes"] for node in route["upstream"]["nodes"]} == {"upstream:8080"}
    assert re.findall(r"listen (\d+);", server) == ["8080"]


@BOTH
def test_ports_are_published_on_the_loopback_interface_only(files: tuple[str, ...]) -> None:
    """No port of an example is open to other machines."""
    published = [port for service in services(*files).values() for port in service.get("ports", ())]

    assert published
    assert [port for port in published if not port.startswith("127.0.0.1:")] == []


def test_traces_arrive() -> None:
    """The gateway and the runner send spans to the collector, and the collector sends them to Jaeger."""
    found = services(*OBSERVED)
    _, routes = gateway_files(found["gateway"])
    (metadata,) = routes["plugin_metadata"]
    collector = yaml.safe_load(mounted(found["collector"], "/etc/otelcol/config.yaml").read_text("utf-8"))
    pipeline = collector["service"]["pipelines"]["traces"]
    endpoint = collector["receivers"]["otlp"]["protocols"]["http"]["endpoint"]

    assert settings_of(found["runner"]).tracing_enabled
    assert not settings_of(found["runner"]).tracing_propagate  # the gateway's plugin sets the header
    assert urlsplit(found["runner"]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"]).netloc == metadata["collector"]["address"]
    assert metadata["collector"]["address"] == f"collector:{endpoint.rpartition(':')[2]}"
    assert {kind: set(pipeline[kind]) for kind in ("receivers", "processors", "exporters")} == {
        kind: set(collector[kind]) for kind in ("receivers", "processors", "exporters")
    }
    assert [exporter["endpoint"] for exporter in collector["exporters"].values()] == ["http://jaeger:4318"]


def test_metrics_arrive() -> None:
    """Prometheus scrapes the addresses on which the runner and the gateway serve metrics, and stores exemplars."""
    found = services(*OBSERVED)
    settings = settings_of(found["runner"])
    config, _ = gateway_files(found["gateway"])
    prometheus = found["prometheus"]
    (file,) = [argument.partition("=")[2] for argument in prometheus["command"] if argument.startswith("--config.file=")]
    scraped = yaml.safe_load(mounted(prometheus, file).read_text("utf-8"))
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in scraped["scrape_configs"]}

    assert targets == {
        "apisix-runner": [f"runner:{str(settings.metrics_address).rpartition(':')[2]}"],
        "apisix": [f"gateway:{config['plugin_attr']['prometheus']['export_addr']['port']}"],
    }
    assert settings.metrics_allow_remote
    assert "--enable-feature=exemplar-storage" in prometheus["command"]
    assert {str(PurePosixPath(rule).parent) for rule in scraped["rule_files"]} <= set(mounts(prometheus))


def test_dashboards_have_their_data() -> None:
    """Grafana reads from Prometheus and Jaeger, opens the traces of exemplars in Jaeger, and finds its dashboards."""
    found = services(*OBSERVED)
    grafana = found["grafana"]
    provisioned = "/etc/grafana/provisioning"
    sources = yaml.safe_load(mounted(grafana, f"{provisioned}/datasources/datasources.yaml").read_text("utf-8"))["datasources"]
    dashboards = yaml.safe_load(mounted(grafana, f"{provisioned}/dashboards/dashboards.yaml").read_text("utf-8"))["providers"]
    by_uid = {source["uid"]: source for source in sources}
    (link,) = by_uid["prometheus"]["jsonData"]["exemplarTraceIdDestinations"]

    assert {source["url"] for source in sources} == {"http://prometheus:9090", "http://jaeger:16686"}
    assert {str(urlsplit(source["url"]).hostname) for source in sources} <= set(found)
    assert link == {"name": "trace_id", "datasourceUid": "jaeger"}
    assert [provider["options"]["path"] in mounts(grafana) for provider in dashboards] == [True]


class Echo(BaseHTTPRequestHandler):
    """Replies with the headers of the request."""

    def do_GET(self) -> None:
        body = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@pytest.fixture
def upstream() -> Iterator[int]:
    """Serve the upstream, and return its port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join(10.0)


@pytest.mark.process
def test_a_request_through_dev_and_the_runner(tmp_path: Path, upstream: int) -> None:
    """
    The runner starts with these settings, is healthy, and edits a request and its response in the development gateway with these routes.

    Only paths and addresses are replaced, because the containers' do not exist here.
    """
    with reserved_port() as port:
        settings = (COMPOSE / "runner.yaml").read_text("utf-8").replace("0.0.0.0:9092", f"127.0.0.1:{port}")
        (tmp_path / "runner.yaml").write_text(settings.replace("/srv/plugins", str(COMPOSE / "plugins")))
        routes = (COMPOSE / "observe" / "apisix.yaml").read_text("utf-8")
        (tmp_path / "apisix.yaml").write_text(routes.replace("upstream:8080", f"127.0.0.1:{upstream}"))
        with running("--config", str(tmp_path / "runner.yaml")) as runner:
            with Dev(tmp_path, "--no-inspect", "--runner-socket", str(runner.path)) as dev:
                status, headers, body = dev.get("/acme/orders")
            metrics = httpx.get(f"http://127.0.0.1:{port}/metrics")

    assert (status, headers["x-served-by"], json.loads(body)["x-tenant"]) == (200, "compose", "acme")
    assert "apisix_runner_plugin_calls_total" in metrics.text
