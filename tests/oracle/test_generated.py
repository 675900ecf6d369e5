# SPDX-License-Identifier: Apache-2.0
"""The generated code is what `flatc` generates from the schema."""

from pathlib import Path

from tests.oracle import generate


def test_generated_code_is_up_to_date(tmp_path: Path) -> None:
    """After a change of the schema, `python tests/oracle/generate.py` was run."""
    generate.generate(tmp_path)
    fresh = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.glob("A6/**/*.py")}
    kept = {path.relative_to(generate.HERE): path.read_text() for path in generate.HERE.glob("A6/**/*.py")}
    assert fresh == kept
