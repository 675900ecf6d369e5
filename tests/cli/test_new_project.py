# SPDX-License-Identifier: Apache-2.0
"""The command `new` with `--project`: from an empty directory to a wheel whose plugins are found in a fresh environment."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from apisix.cli.commands import commands
from apisix.cli.scaffold import Names, ProjectNames, package_of_project, with_entry_point

CHECKOUT = Path(__file__).resolve().parents[2]
COMMAND_TIMEOUT_S = 300.0
FILES = [
    ".dockerignore",
    ".github/workflows/ci.yml",
    ".gitignore",
    "Dockerfile",
    "README.md",
    "apisix.yaml",
    "pyproject.toml",
    "src/acme_plugins/__init__.py",
    "src/acme_plugins/hello.py",
    "src/acme_plugins/py.typed",
    "tests/test_hello.py",
]


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def project() -> Path:
    """Return the directory of a new project with one plugin."""
    result = invoke("new", "--project", "acme-plugins")
    assert result.exit_code == 0, result.output
    return Path("acme-plugins").resolve()


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(commands, arguments, prog_name="apisix-runner")


def run(*command: str | Path, cwd: Path, environ: dict[str, str] | None = None) -> str:
    """Run a command that must succeed, and return what it prints."""
    environ = {**os.environ, "APISIX_RUNNER_BUILD": "never", "PIP_DISABLE_PIP_VERSION_CHECK": "1", **(environ or {})}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=environ, timeout=COMMAND_TIMEOUT_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def files_in(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def install_by_hand(project: Path) -> dict[str, str]:
    """Make the entry points of a project visible as if it was installed. Returns: the environment of commands that see them."""
    metadata = project / "src" / "acme_plugins-0.1.0.dist-info"
    metadata.mkdir()
    metadata.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: acme-plugins\nVersion: 0.1.0\n")
    lines = project.joinpath("pyproject.toml").read_text().partition('entry-points."apisix.plugins"]\n')[2].partition("\n\n")[0]
    metadata.joinpath("entry_points.txt").write_text("[apisix.plugins]\n" + lines.replace('"', "") + "\n")
    return {"PYTHONPATH": str(project / "src")}


def test_files(project: Path) -> None:
    """A project has these files, and no placeholder is left in them."""
    assert files_in(project) == FILES
    left = [
        name for name in FILES if "$" in (text := (project / name).read_text()).replace("${{", "").replace("${RUNNER_IMAGE}", "") and text
    ]
    assert left == []


def test_output() -> None:
    """The command prints what it wrote and what to do next."""
    result = invoke("new", "--project", "acme/my.plugins", "KeyAuth")

    assert result.output.splitlines()[-7:] == [
        "Next:",
        "  cd acme/my.plugins                      is the directory of the project",
        "  pip install --editable '.[dev]'         installs the project and its tools",
        "  pytest .                                runs the test",
        "  apisix-runner dev                       starts a gateway, an echo upstream, and the runner",
        "  curl -i http://127.0.0.1:9080/key-auth  shows what the upstream received; run it in a second terminal",
        "Edit src/my_plugins/key_auth.py, save it, and repeat the request.",
    ]


def test_current_directory(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--project .` uses the name of the current directory."""
    shutil.rmtree(project)
    project.mkdir()
    monkeypatch.chdir(project)

    result = invoke("new", "--project", ".")

    assert (result.exit_code, files_in(project)) == (0, FILES)
    assert "cd ." not in result.output


@pytest.mark.parametrize(
    ("directory", "names"),
    [
        ("acme-plugins", ProjectNames("acme-plugins", "acme_plugins")),
        ("Acme.Plugins", ProjectNames("acme-plugins", "acme_plugins")),
        ("acme__plugins2", None),
        ("apisix", None),
        ("json", None),
        ("class", None),
        ("2nd", None),
        ("my plugins", None),
    ],
)
def test_names(directory: str, names: ProjectNames | None) -> None:
    """The name of the directory determines those of the distribution and the package. Others are refused, and nothing is written."""
    result = invoke("new", "--project", directory)

    assert (result.exit_code, Path(directory).exists()) == ((0, True) if names else (2, False))
    assert names is None or ProjectNames.of(directory) == names


def test_nothing_is_overwritten() -> None:
    """If one of the files exists, nothing is written."""
    Path("acme").mkdir()
    Path("acme", "README.md").write_text("mine")

    result = invoke("new", "--project", "acme")

    assert result.output == ("Error: these files already exist: README.md; nothing was written. Choose another name, or remove them\n")
    assert files_in(Path("acme")) == ["README.md"]


def test_file_in_place_of_the_directory() -> None:
    """A file with the name of the directory is refused."""
    Path("acme").write_text("")

    assert invoke("new", "--project", "acme").exit_code == 2


def test_name_is_required_without_project() -> None:
    """Without --project, the name has no default."""
    result = invoke("new")

    assert (result.exit_code, "Missing argument 'NAME'" in result.output) == (2, True)


def test_second_plugin(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a project, `new NAME` adds the plugin to the package, with its entry point and route. The tests of both plugins pass."""
    monkeypatch.chdir(project)

    result = invoke("new", "key-auth")

    assert result.output.splitlines()[:4] == [
        "wrote src/acme_plugins/key_auth.py",
        "wrote tests/test_key_auth.py",
        "added the route key-auth to apisix.yaml",
        "added the entry point key-auth to pyproject.toml",
    ]
    environ = install_by_hand(project)
    assert "4 passed" in run(sys.executable, "-m", "pytest", "-p", "no:asyncio", "-p", "no:cacheprovider", cwd=project, environ=environ)
    plugins = json.loads(run(sys.executable, "-m", "apisix", "plugins", "--json", cwd=project, environ=environ))
    assert {"hello", "key-auth"} <= {plugin["name"] for plugin in plugins["plugins"]}
    checked = run(sys.executable, "-m", "apisix", "check", "apisix.yaml", cwd=project, environ=environ)
    assert checked == "4 plugins, 2 configurations: no problems\n"


def test_project_with_other_entry_points(tmp_path: Path) -> None:
    """An entry point that can't be added safely is printed."""
    pyproject = tmp_path / "pyproject.toml"
    pyproject.write_text('[project]\nentry-points."apisix.plugins" = { hello = "acme:Hello" }\n')
    Path("src", "acme").mkdir(parents=True)

    result = invoke("new", "key-auth")

    assert (
        'pyproject.toml was not changed. Add this to its entry points of apisix.plugins:\n\nkey-auth = "acme.key_auth:KeyAuth"\n'
        in result.output
    )
    assert Path("src", "acme", "key_auth.py").exists()


@pytest.mark.parametrize("text", ["", "[", "[project]\nname = 3\n", '[project.entry-points]\n"apisix.plugins" = 3\n'])
def test_directory_without_a_project(tmp_path: Path, text: str) -> None:
    """If a pyproject.toml has no plugins, `new` creates the plugin in `plugins/`, as without one."""
    (tmp_path / "pyproject.toml").write_text(text)

    assert package_of_project(tmp_path / "pyproject.toml") is None
    assert invoke("new", "hello").output.startswith("wrote plugins/hello.py\n")


def test_entry_point_that_exists() -> None:
    """An existing entry point is not replaced."""
    text = '[project.entry-points."apisix.plugins"]\nhello = "a:B"\n'

    assert with_entry_point(text, "acme", Names.of("hello")) is None


def test_linters(project: Path, cache: pytest.Cache) -> None:
    """Linters and type checkers report nothing, with the settings of the project."""
    python, mypy_cache = sys.executable, str(cache.mkdir("mypy-of-new"))

    run(python, "-m", "ruff", "check", "--no-cache", ".", cwd=project)
    run(python, "-m", "ruff", "format", "--no-cache", "--check", ".", cwd=project)
    run(python, "-m", "mypy", "--cache-dir", mypy_cache, cwd=project)


def test_basedpyright(project: Path) -> None:
    """Pyright's rules in strict mode report nothing. The fork basedpyright is used, because it needs no download of its own."""
    pytest.importorskip("basedpyright", reason="basedpyright is not installed; `make types` installs it")

    run(sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable, cwd=project)


def test_workflow(project: Path) -> None:
    """The actions of the workflow are the same versions as those of this repository, and the workflow has no permissions by default."""
    workflow = project.joinpath(".github", "workflows", "ci.yml").read_text()
    own = CHECKOUT.joinpath(".github", "workflows", "ci.yml").read_text()
    uses = [line.strip(" -") for line in workflow.splitlines() if "uses:" in line]

    assert [line for line in uses if line not in own] == []
    assert len(uses) == 2
    assert yaml.safe_load(workflow)["permissions"] == {}


@pytest.mark.slow
@pytest.mark.process
def test_whole_life(project: Path, tmp_path: Path) -> None:
    """The wheel of a project is installed beside the wheel of the runner in a fresh environment, which then runs its plugin."""
    wheels = tmp_path / "wheels"
    for source in (copy_of_the_runner(tmp_path / "runner"), project):
        run(
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "--wheel-dir",
            wheels,
            source,
            cwd=tmp_path,
        )
    wheel, runner = sorted(map(str, wheels.iterdir()))
    assert sorted(zipfile.ZipFile(wheel).namelist())[:3] == [
        "acme_plugins-0.1.0.dist-info/METADATA",
        "acme_plugins-0.1.0.dist-info/RECORD",
        "acme_plugins-0.1.0.dist-info/WHEEL",
    ]
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "fresh", cwd=tmp_path)
    programs = tmp_path / "fresh" / "bin"
    install(programs / "python", f"{runner}[dev]", wheel)
    plugins = json.loads(run(programs / "apisix-runner", "plugins", "--json", cwd=tmp_path))
    (hello,) = (plugin for plugin in plugins["plugins"] if plugin["name"] == "hello")
    assert hello["entry_point"] == "hello = acme_plugins.hello:Hello in the group apisix.plugins of the distribution acme-plugins"
    shutil.rmtree(project / "src")  # the installed package is tested
    assert "2 passed" in run(programs / "pytest", cwd=project)
    checked = run(programs / "apisix-runner", "check", "apisix.yaml", cwd=project)
    assert checked == "3 plugins, 1 configuration: no problems\n"


def copy_of_the_runner(to: Path) -> Path:
    """Copy what a wheel is built from, so that the checkout's own build directory stays as it is."""
    shutil.copytree(CHECKOUT / "apisix", to / "apisix", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "NOTICE", "MANIFEST.in"):
        shutil.copy(CHECKOUT / name, to)
    return to


def install(python: Path, *packages: str) -> None:
    """Install packages with their dependencies from the package index. If there is no index, the test is skipped."""
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", *packages]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=COMMAND_TIMEOUT_S)
    if done.returncode and ("No matching distribution" in done.stderr or "connection" in done.stderr.lower()):
        pytest.skip(f"no package index with the dependencies can be reached: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
