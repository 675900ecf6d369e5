# SPDX-License-Identifier: Apache-2.0
"""
The C implementation of the primitives as a module of its own, which exists for tests only.

The functions in `primitives.pxd` are inlined into the modules that call them, so Python can't call them there. Here each gets a wrapper,
which is written from the signature of the Python fallback: a function that only one of the two has, or that takes other arguments, fails to
compile.
"""

import fcntl
import inspect
import os
import subprocess
import sys
import sysconfig
from hashlib import sha256
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from apisix.runner import primitives

ROOT = Path(__file__).parents[2]
DECLARATIONS = ROOT / "apisix" / "runner" / "primitives.pxd"
CACHE = ROOT / "build" / "tests"
NAME = "compiled_primitives"
EXTRA_FLAGS = os.environ.get("APISIX_RUNNER_CFLAGS", "").split()


class CannotCompile(Exception):
    """Cython or a C compiler is missing, or the module does not compile. The text says what was printed."""


def source() -> str:
    """Return the source of the module: one function for each primitive."""
    lines = ["# cython: language_level=3", "from apisix.runner cimport primitives", "HAS_CONTEXTS = primitives.CAN_ENTER", ""]
    for name in primitives.__all__:
        signature = inspect.signature(getattr(primitives, name))
        arguments = ", ".join(signature.parameters)
        keyword = "" if signature.return_annotation is None else "return "  # in C, a function that returns nothing returns a number
        lines += [f"def {name}({arguments}):", f"    {keyword}primitives.{name}({arguments})", ""]
    return "\n".join(lines)


def compiled_primitives() -> ModuleType:
    """
    Compile the module unless that was done before, and return it.

    Raises: CannotCompile: it can't be compiled here.
    """
    text = source()
    key = sha256(repr((text, DECLARATIONS.read_bytes(), sys.version, EXTRA_FLAGS)).encode()).hexdigest()[:16]
    directory = CACHE / key
    built = directory / f"{NAME}{sysconfig.get_config_var('EXT_SUFFIX')}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several processes run the tests
        if not built.exists():
            directory.mkdir(exist_ok=True)
            _compile(directory / f"{NAME}.pyx", text, built)
    spec = spec_from_file_location(NAME, built, loader=ExtensionFileLoader(NAME, str(built)))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _compile(file: Path, text: str, built: Path) -> None:
    file.write_text(text, encoding="utf-8")
    _run([sys.executable, "-m", "cython", "-3", "-I", str(ROOT), str(file)])
    compiler = os.environ.get("CC", "cc").split()
    include = sysconfig.get_paths()["include"]
    flags = ["-O1", "-fPIC", "-shared", "-Wno-unused-function", f"-I{include}", *EXTRA_FLAGS]
    partial = built.with_suffix(".partial")
    _run([*compiler, *flags, str(file.with_suffix(".c")), "-o", str(partial)])
    partial.rename(built)


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    except OSError as error:
        raise CannotCompile(str(error)) from None
    if done.returncode:
        raise CannotCompile(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
