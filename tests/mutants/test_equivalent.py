# SPDX-License-Identifier: Apache-2.0
"""Equivalent mutants are found by the lines that they change, even if these lines have moved."""

from pathlib import Path

from tests.mutants.equivalent import FILE, Equivalents, key_of

DIFF = """\
--- mutation diff ---
--- a/apisix/runner/wire/frames.py
+++ b/apisix/runner/wire/frames.py
@@ -1,3 +1,3 @@
 def size():
-    return 4
+    return 5
"""


def test_a_mutant_is_known_by_its_lines() -> None:
    assert key_of(DIFF) == ("apisix/runner/wire/frames.py", "return 4", "return 5")


def test_a_listed_mutant_has_a_reason(tmp_path: Path) -> None:
    file = tmp_path / "equivalent.toml"
    file.write_text(
        '[[mutant]]\nmodule = "apisix/runner/wire/frames.py"\nbefore = "return 4"\nafter = "return 5"\nreason = "a hint only"\n',
        encoding="utf-8",
    )

    assert Equivalents.load(file).reason(DIFF) == "a hint only"
    assert Equivalents.load(file).reason(DIFF.replace("return 5", "return 6")) is None


def test_listed_modules_and_lines_exist() -> None:
    checkout = FILE.parent.parent.parent
    missing = [
        (module, before)
        for module, before, _ in Equivalents.load().reasons
        if before not in [line.strip() for line in (checkout / module).read_text(encoding="utf-8").splitlines()]
    ]

    assert missing == []
