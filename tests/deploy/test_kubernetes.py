# SPDX-License-Identifier: Apache-2.0
"""
The manifests fit together, and their values are accepted by what reads them.

`make verify-deploy` also validates them against the schemas of Kubernetes. The keys of the chart were read in `values.yaml` and in the
templates of https://github.com/apache/apisix-helm-chart, chart apisix 2.14.0, commit 60c9cbb.
"""

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from apisix.cli.diagnosis.gateway import GatewayConfig, examine_gateway
from apisix.cli.start import read_arguments
from apisix.runner.plugin.chain.builder import build_chain
from apisix.runner.plugin.configuration.route_configuration import RouteConfiguration
from apisix.runner.plugin.loading.registry import Registry
from apisix.runner.settings.loading import load
from tests.docs.pages import CHECKOUT

KUBERNETES = CHECKOUT / "deploy" / "kubernetes"
BASE = KUBERNETES / "base"
SOCKET = "/run/apisix-runner/runner.sock"
CHART_VALUES = {
    "apisix.admin.credentials.secretName",
    "apisix.extPlugin.cmd",
    "apisix.extPlugin.enabled",
    "apisix.fullCustomConfig.config",
    "apisix.fullCustomConfig.enabled",
    "apisix.nginx.envs",
    "extraEnvVars",
    "extraInitContainers",
    "extraVolumeMounts",
    "extraVolumes",
    "image.repository",
    "image.tag",
    "podSecurityContext",
}
FREE_FORM = {"apisix.fullCustomConfig.config", "podSecurityContext"}
"""Values that the chart copies, whatever they contain."""


def read(*path: str) -> Any:
    return yaml.safe_load(KUBERNETES.joinpath(*path).read_text("utf-8"))


def keys(values: dict[str, Any], prefix: str = "") -> set[str]:
    """Return the dotted keys of a mapping, down to lists, scalars and free forms."""
    found = set()
    for key, value in values.items():
        name = f"{prefix}{key}"
        found |= keys(value, f"{name}.") if isinstance(value, dict) and name not in FREE_FORM else {name}
    return found


DEPLOYMENT = read("base", "deployment.yaml")
POD = DEPLOYMENT["spec"]["template"]["spec"]
RUNNER = POD["initContainers"][0]
SIDECARS = [
    pytest.param(RUNNER, id="base"),
    pytest.param(read("helm", "sidecar.yaml")["extraInitContainers"][0], id="helm"),
]


@pytest.mark.parametrize("container", SIDECARS)
def test_sidecar(container: dict[str, Any]) -> None:
    """The runner is a native sidecar that can change nothing but the directory of the socket."""
    security = container["securityContext"]

    assert container["restartPolicy"] == "Always"
    assert (security["readOnlyRootFilesystem"], security["allowPrivilegeEscalation"], security["capabilities"]) == (
        True,
        False,
        {"drop": ["ALL"]},
    )
    assert [mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")] == [os.path.dirname(SOCKET)]
    assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize(
    "volumes", [pytest.param(POD["volumes"], id="base"), pytest.param(read("helm", "sidecar.yaml")["extraVolumes"], id="helm")]
)
def test_size_of_the_directory_of_the_socket(volumes: list[dict[str, Any]]) -> None:
    """It contains the shared store and the metadata of plugins, and the stored route configurations."""
    settings = load(None, {}, {})
    (volume,) = (each["emptyDir"] for each in volumes if each["name"].endswith("socket"))
    limit_mib = int(volume["sizeLimit"].removesuffix("Mi"))

    assert limit_mib * 2**20 >= settings.state_size + settings.metadata_size + 32 * 2**20


@pytest.mark.parametrize("container", SIDECARS)
@pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe", "livenessProbe"])
def test_probes(container: dict[str, Any], probe: str) -> None:
    """Each probe is a command that exists, and Kubernetes waits longer for it than it takes."""
    program, command, *flags = container[probe]["exec"]["command"]

    assert (program, command, flags[0]) == ("apisix-runner", "health", "--timeout")
    assert container[probe]["timeoutSeconds"] > float(flags[1])


@pytest.mark.parametrize("container", SIDECARS)
def test_settings(container: dict[str, Any]) -> None:
    """The runner accepts its arguments, environment and file, serves metrics on the port of the container, and stops in time."""
    flags = read_arguments(container["args"])
    environ = {variable["name"]: variable["value"] for variable in container.get("env", ())}
    assert flags is not None
    file = BASE / "config" / "runner.yaml" if "config" in flags else None
    settings = load(file, {}, {"APISIX_RUNNER_SOCKET_FILE": SOCKET, **environ})

    assert settings.notes == ()
    assert settings.socket_file == SOCKET
    assert settings.metrics_address == f"0.0.0.0:{container['ports'][0]['containerPort']}"
    assert (settings.metrics_allow_remote, settings.stop_accepting_after_s) == (True, 0.0)
    assert settings.memory_limit_bytes <= 512 * 2**20


def test_gateway(tmp_path: Path) -> None:
    """`doctor` finds nothing wrong in the configurations of the gateway."""
    custom = read("helm", "sidecar.yaml")["apisix"]["fullCustomConfig"]["config"]
    findings = [
        finding
        for config in (read("base", "config", "config.yaml"), custom)
        for finding in examine_gateway(GatewayConfig(tmp_path, config), SOCKET)
    ]

    assert [finding.text for finding in findings if finding.level != "ok"] == []


def test_route() -> None:
    """The plugin in the ConfigMap loads, and accepts the configuration of the route."""
    registry = Registry.load([BASE / "plugins"])
    (route,) = read("base", "config", "apisix.yaml")["routes"]
    conf = [(entry["name"], entry["value"]) for entry in route["plugins"]["ext-plugin-pre-req"]["conf"]]

    assert (BASE / "config" / "apisix.yaml").read_text().endswith("#END\n")
    assert registry.problems == []
    assert build_chain(registry, RouteConfiguration("route#1#ext-plugin-pre-req#1", tuple(conf)), response=False).problem is None


def test_plugins_of_a_config_map(tmp_path: Path) -> None:
    """Kubernetes mounts a ConfigMap as links to files in a hidden directory, which is replaced as a whole. Each plugin is loaded once."""
    (tmp_path / "..2026_01").mkdir()
    (tmp_path / "..2026_01" / "hello.py").write_text((BASE / "plugins" / "hello.py").read_text())
    (tmp_path / "..data").symlink_to("..2026_01")
    (tmp_path / "hello.py").symlink_to("..data/hello.py")
    registry = Registry.load([tmp_path])

    assert registry.problems == []
    assert [plugin.source.file for plugin in registry.types if plugin.source.kind == "directory"] == [str(tmp_path / "hello.py")]


def test_names() -> None:
    """Files of ConfigMaps exist, mounts name volumes that exist, and the PodMonitor selects the pods and their port."""
    kustomization = read("base", "kustomization.yaml")
    monitor = read("components", "pod-monitor", "pod-monitor.yaml")["spec"]
    files = [file for generator in kustomization["configMapGenerator"] for file in generator["files"]]
    maps = {generator["name"] for generator in kustomization["configMapGenerator"]}
    volumes = {volume["name"]: volume for volume in POD["volumes"]}
    mounted = {mount["name"] for container in (RUNNER, *POD["containers"]) for mount in container["volumeMounts"]}

    assert [file for file in (*files, *kustomization["resources"]) if not (BASE / file).exists()] == []
    assert mounted == set(volumes)
    assert {volume["configMap"]["name"] for volume in volumes.values() if "configMap" in volume} == maps
    assert kustomization["images"][0]["name"] == RUNNER["image"]
    assert monitor["podMetricsEndpoints"][0]["port"] == RUNNER["ports"][0]["name"]
    assert monitor["selector"]["matchLabels"] == kustomization["labels"][0]["pairs"]


@pytest.mark.parametrize("name", ["sidecar.yaml", "managed.yaml"])
def test_values_of_the_chart(name: str) -> None:
    """The chart has each of the values."""
    values = read("helm", name)

    assert keys(values) - CHART_VALUES == set()


def test_managed_runner_of_the_chart() -> None:
    """The command is the one of the image, and the chart writes its arguments without quotes."""
    command = read("helm", "managed.yaml")["apisix"]["extPlugin"]["cmd"]
    gateway = yaml.safe_load((CHECKOUT / "deploy/docker/all-in-one/config.yaml").read_text())

    assert command == gateway["ext-plugin"]["cmd"]
    assert [argument for argument in command if not re.fullmatch(r"[\w./-]+", argument)] == []


@pytest.mark.parametrize("version", ["1.29", "1.33", "1.37"])
@pytest.mark.parametrize("name", ["deployment.yaml", "service.yaml"])
def test_schema(version: str, name: str) -> None:
    """The manifests follow the schema of Kubernetes, without unknown fields."""
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="needs the dependency group deploy: make verify-deploy")
    manifest = read("base", name)
    selector = {"app.kubernetes.io/name": "apisix-with-python"}
    if manifest["kind"] == "Deployment":  # what kustomize adds
        manifest["spec"]["selector"] = {"matchLabels": selector}
        manifest["spec"]["template"]["metadata"] = {"labels": selector}

    kubernetes_validate.validate(manifest, version, strict=True)
