# SPDX-License-Identifier: Apache-2.0
"""
The accelerator: the modules of the hot path, compiled by Cython from the same sources that run without it.

Declarations for C stand in `.pxd` files beside the sources. Everything else about this package is said in pyproject.toml.

An editable install compiles only where APISIX_RUNNER_ACCELERATE is set (`make accelerate`): whoever edits sources expects them to run.
"""

import os
import sys
from pathlib import Path
from runpy import run_path

from setuptools import Extension, setup

# By its path: importing the package would take whatever is installed.
BUILD = Path("build/cython")
MODULES = run_path(str(Path(__file__).parent / "apisix" / "accelerator.py"))["MODULES"]


def extensions() -> list[Extension]:
    """Return what is to be compiled; nothing where Cython fails. Each is optional: without a C compiler the pure Python runs."""
    if "editable_wheel" in sys.argv and not os.environ.get("APISIX_RUNNER_ACCELERATE"):
        return []
    try:
        from Cython.Build import cythonize
    except ImportError as error:
        print(f"the accelerator is left out: {error}", file=sys.stderr)
        return []
    sources = [Path(name.replace(".", "/") + ".py") for name in MODULES]
    declarations = Path("apisix").rglob("*.pxd")
    generated = [BUILD / source.with_suffix(".c") for source in sources]
    # Cython sees by itself what a module needs of its own declarations, but not of those that it takes as a module (`scalars`).
    changed_s = max(path.stat().st_mtime for path in declarations)
    stale = any(not path.exists() or path.stat().st_mtime < changed_s for path in generated)
    listed = [Extension(name, [name.replace(".", "/") + ".py"], extra_compile_args=["-g0"]) for name in MODULES]
    compiled: list[Extension] = cythonize(
        listed,
        # Annotations are for mypy: IntEnum is an `int` to it, and none to Cython.
        compiler_directives={"language_level": 3, "annotation_typing": False, "auto_pickle": False},
        build_dir=str(BUILD),
        force=stale,
    )
    for extension in compiled:
        extension.optional = True  # set here, because cythonize drops it
    return compiled


setup(ext_modules=extensions())
