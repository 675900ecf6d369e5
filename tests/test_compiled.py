# SPDX-License-Identifier: Apache-2.0
"""Compiled or not: which engine a process chooses, and that the declarations for C match the sources."""

import ast
import os
import re
import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from runpy import run_path

import pytest

from apisix import compiled

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[1]
SAY_MODE = "import apisix, apisix.runner.wire.frames as f; print(f.__file__.endswith('.py'))"
DECLARED = [ROOT.joinpath(*name.split(".")).with_suffix(".pxd") for sources in compiled.EXTENSIONS.values() for name in sources]


def run_says(environment: dict[str, str]) -> str:
    """Return True if a new process runs the source of a module that may be compiled."""
    return subprocess.run(
        [sys.executable, "-c", SAY_MODE], cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_the_variable_keeps_compiled_modules_out() -> None:
    """With APISIX_RUNNER_PURE, the sources run, even if compiled modules exist."""
    assert run_says({compiled.VARIABLE: "1"}) == "True"


def test_this_process_runs_what_it_says() -> None:
    """`--version` shows the engine that a process runs."""
    assert str(compiled.why_pure() is not None) == run_says({})


def build(directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run setup.py without a working C compiler, so that nothing is compiled."""
    return subprocess.run(
        [sys.executable, "setup.py", "--quiet", "build_ext", "--build-lib", str(directory), "--build-temp", str(directory)],
        cwd=ROOT,
        env={**os.environ, "CC": str(directory / "no-compiler"), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_a_compiler_the_fallback_is_announced_in_one_line(tmp_path: Path) -> None:
    """An installation without a C compiler succeeds, and prints what to install."""
    done = build(tmp_path, APISIX_RUNNER_BUILD="auto")
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert "pure Python fallback" in line
    assert "no-compiler: No such file or directory" in line
    assert "gcc python3-dev" in line


def test_without_a_compiler_a_required_build_fails(tmp_path: Path) -> None:
    """A wheel is never built without the engine by mistake. One line prints why, and what to install."""
    done = build(tmp_path, APISIX_RUNNER_BUILD="require")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "APISIX_RUNNER_BUILD is `require`" in line
    assert "no-compiler: No such file or directory" in line
    assert "gcc python3-dev" in line


def test_another_value_of_the_variable_is_refused(tmp_path: Path) -> None:
    """A typing mistake does not silently choose a mode."""
    done = build(tmp_path, APISIX_RUNNER_BUILD="yes")
    assert done.returncode == 1
    assert done.stderr == "APISIX_RUNNER_BUILD must be auto, require or never, and is 'yes'\n"


def checkout_with_extension_modules(directory: Path, built_s: float) -> Path:
    """Make a copy of the package's sources with empty files in place of the extension modules. Returns: where the list of them is."""
    shutil.copytree(ROOT / "apisix", directory / "apisix", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    (directory / "setup.py").touch()
    for name in compiled.EXTENSIONS:
        module = directory / "apisix" / "compiled" / f"{name}{EXTENSION_SUFFIXES[0]}"
        module.touch()
        os.utime(module, (built_s, built_s))
    return directory / "apisix" / "compiled" / "__init__.py"


@pytest.mark.parametrize("suffix", [".py", ".pxd"])
def test_a_source_edited_after_the_build_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    """A checkout runs its Python sources if one of them was edited, and `--version` contains its name."""
    monkeypatch.delenv(compiled.VARIABLE, raising=False)
    source = ROOT / "apisix" / "runner" / "wire" / f"frames{suffix}"
    built_s = max(file.stat().st_mtime for file in (ROOT / "apisix").rglob("*.p*"))
    package = checkout_with_extension_modules(tmp_path, built_s)
    engine = run_path(str(package))["engine"]
    assert engine() == "compiled"
    os.utime(tmp_path / source.relative_to(ROOT), (built_s + 1, built_s + 1))
    assert engine() == "pure Python: apisix.runner.wire.frames was edited since it was compiled; run `make build`"


@pytest.mark.skipif(
    compiled.why_pure() is not None or not (ROOT / "build" / "cython").is_dir(), reason="the engine was not compiled in this checkout"
)
@pytest.mark.slow
def test_a_build_without_anything_to_compile(tmp_path: Path) -> None:
    """After `make build`, the engine is current, even if the edit of a source has not changed what is compiled."""
    for name in ("apisix", "build/cython"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy2(ROOT / name, tmp_path / name)
    engine = [sys.executable, "-c", "from apisix.compiled import engine; print(engine())"]
    environment = {name: value for name, value in os.environ.items() if name != compiled.VARIABLE}
    source = tmp_path / "apisix" / "runner" / "wire" / "frames.py"
    source.touch()

    def says() -> str:
        return subprocess.run(engine, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout.strip()

    assert says() == "pure Python: apisix.runner.wire.frames was edited since it was compiled; run `make build`"
    subprocess.run([sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"], cwd=tmp_path, env=environment, check=True)
    assert says() == "compiled"


def declared_attributes() -> dict[str, set[str]]:
    """Return the attributes of all classes in C, including those of their bases, by the name of the class."""
    attributes: dict[str, set[str]] = {}
    bases: dict[str, str] = {}
    for file in DECLARED:
        for line in file.read_text().splitlines() if file.exists() else ():
            if opening := re.match(r"cdef class (\w+)(?:\((\w+)\))?:", line):
                of_class = attributes.setdefault(opening[1], set())
                bases[opening[1]] = opening[2]
            elif attribute := re.match(r"    cdef (?:public |readonly )?\w+ (\w+)$", line):
                of_class.add(attribute[1])
    for name in attributes:
        base = bases[name]
        while base in attributes:
            attributes[name] |= attributes[base]
            base = bases[base]
    return attributes


@pytest.mark.parametrize("file", [file for file in DECLARED if file.exists()], ids=lambda file: file.stem)
def test_each_attribute_is_declared(file: Path) -> None:
    """A class in C has the attributes that its declaration lists. An attribute that is set but not declared fails only in C."""
    attributes = declared_attributes()
    for node in ast.parse(file.with_suffix(".py").read_text()).body:
        if isinstance(node, ast.ClassDef) and node.name in attributes:
            set_in_source = {
                target.attr
                for target in ast.walk(node)
                if isinstance(target, ast.Attribute)
                and isinstance(target.ctx, ast.Store)
                and isinstance(target.value, ast.Name)
                and target.value.id == "self"
            }
            setters = {member.name for member in node.body if isinstance(member, ast.FunctionDef)}
            assert set() == set_in_source - attributes[node.name] - setters, f"to be declared in {file.name}, class {node.name}"


@pytest.mark.parametrize(
    "name",
    [
        "apisix.main",
        "apisix.runner.http.body.transfer",
        "apisix.runner.legacy.base",
        "apisix.runner.plugin.chain.chain",
        "apisix.runner.plugin.chain.builder",
        "apisix.runner.plugin.loading.registry",
        "apisix.runner.wire.messages",
        "apisix.testing",
    ],
)
def test_any_module_can_be_imported_first(name: str) -> None:
    """Modules outside of the compiled engine import parts of it while it is being initialized, and the engine imports such modules."""
    subprocess.run([sys.executable, "-c", f"import {name}"], cwd=ROOT, check=True)
