# SPDX-License-Identifier: Apache-2.0
"""
Reject words that docs/glossary.md replaces, and phrases that are not plain technical English: `python tools/vocabulary.py [FILE]...`.

Without files, all covered files are checked. In Markdown, code is not checked, because it can contain names of the public API. In Python,
names are checked too. The exit status is 1 if a word was found.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parent.parent

COVERED: Final = (
    "*.md",
    "*.py",
    "*.toml",
    ".github/**/*.md",
    "Makefile",
    "apisix/*.py",
    "apisix/*.yaml",
    "apisix/cli/**/*.py",
    "apisix/compiled/**/*.py",
    "apisix/gateway/**/*.py",
    "apisix/gateway/inspector/static/*.css",
    "apisix/gateway/inspector/static/*.html",
    "apisix/gateway/inspector/static/*.js",
    "apisix/plugins/**/*.py",
    "apisix/runner/*.py",
    "apisix/runner/call/**/*.py",
    "apisix/runner/call/**/*.pxd",
    "apisix/runner/conf_store/**/*.py",
    "apisix/runner/http/**/*.py",
    "apisix/runner/http/**/*.pxd",
    "apisix/runner/ipc/**/*.py",
    "apisix/runner/legacy/**/*.pxd",
    "apisix/runner/legacy/**/*.py",
    "apisix/runner/logging/**/*.py",
    "apisix/runner/metrics/**/*.py",
    "apisix/runner/plugin/**/*.pxd",
    "apisix/runner/plugin/**/*.py",
    "apisix/runner/records/**/*.py",
    "apisix/runner/settings/**/*.py",
    "apisix/runner/supervisor/**/*.py",
    "apisix/runner/primitives.pxd",
    "apisix/runner/wire/**/*.py",
    "apisix/runner/wire/**/*.pxd",
    "apisix/runner/worker/**/*.py",
    "apisix/testing/**/*.py",
    "apisix/runner/worker/**/*.pxd",
    "bench/**/*.c",
    "bench/**/*.py",
    "docs/**/*.md",
    "examples/**/*.md",
    "examples/**/*.py",
    "examples/**/*.yaml",
    "tests/**/*.md",
    "tests/*.py",
    "tests/bench/**/*.py",
    "tests/browser/**/*.py",
    "tests/cli/**/*.py",
    "tests/call/**/*.py",
    "tests/conf_store/**/*.py",
    "tests/docs/**/*.py",
    "tests/fuzz/**/*.py",
    "tests/gateway/**/*.py",
    "tests/http/**/*.py",
    "tests/integration/**/*.py",
    "tests/ipc/**/*.py",
    "tests/legacy/**/*.py",
    "tests/logging/**/*.py",
    "tests/metrics/**/*.py",
    "tests/plugin/**/*.py",
    "tests/primitives/**/*.py",
    "tests/settings/**/*.py",
    "tests/soak/**/*.py",
    "tests/supervisor/**/*.py",
    "tests/testing/**/*.py",
    "tests/tools/**/*.py",
    "tests/wire/**/*.py",
    "tests/worker/**/*.py",
    "tools/**/*.py",
)
"""Globs of the files that are checked. Extend it when the code and the tests use the vocabulary."""
SKIPPED: Final = ("tools/vocabulary.py", "tests/tools/test_vocabulary.py")
"""Files that contain the words on purpose."""

TERMS: Final = {
    # Terms of the glossary.
    "crew": "worker pool",
    "change-?over|changeovers": "rolling restart",
    "sessions?": "connection handler",
    "conversations?": "call, or call runner",
    "exchanges?": "call",
    "questions?": "info request",
    "asking": "requesting",
    "asks? the gateway": "send an info request",
    "prepared chain": "chain",
    "straight": "inline",
    "asks? nothing": "runs inline",
    "stall(?:s|ed|ing)?": "block",
    "twins?": "async variant, or C implementation and Python fallback",
    "generations?": "legacy API",
    "older plugins": "legacy plugins",
    "neighbou?rs?": "sibling modules",
    "floor": "baseline",
    "moods?": "variance",
    # Verbs and phrases that are not plain English.
    "anew": "again",
    "mend(?:s|ed|ing)?": "fix",
    "dear(?:er)?": "expensive",
    "shall": "will, or must",
    "unasked": "unexpectedly",
    "stands?(?![-_]alone)": "is",
    "knows": "has",
    "tells?": "report, or print",
    "minds?": "check",
    "hires?|buries": "start, or remove",
    "holds": "contains, or keeps",
    "go on|goes on|going on|went on": "continue",
    "(?<!there )(?:is|are) no(?! (?:longer|more)\\b|$)": "is not a",
    "says so": "reports it",
    "house|rooms?|desks?|strangers?|spares?|door": "the term of the glossary",
}
EXCEPTIONS: Final = {
    'scope="session"': "the name of a scope in pytest",
    "requests.Session": "a class of a library",
    "start_new_session": "an argument of subprocess.Popen",
    "new_cdp_session": "a method of Playwright",
    "question_mark": "the punctuation mark",
    "Math.floor": "a function of JavaScript",
    "MaxMind": "the name of a company",
    "session=": "a cookie of a benchmark",
    "|session|": "a part of the names of secret headers",
}
"""Text in which the words are allowed, with the reason."""
HTTP_SESSIONS: Final = (
    "CHANGELOG.md",
    "docs/guides/cookbook.md",
    "docs/guides/state.md",
    "docs/guides/write.md",
    "examples/README.md",
    "examples/apisix.yaml",
    "examples/plugins/sessions.py",
    "examples/tests/test_sessions.py",
    "tests/http/test_redaction.py",
)
"""Files about the sessions of browsers, which have no other name."""

_PATTERNS: Final = [(re.compile(rf"(?<![a-z])(?:{term})(?![a-z])", re.IGNORECASE), instead) for term, instead in TERMS.items()]


class Finding(NamedTuple):
    """A word that is not allowed."""

    path: str
    line: int
    word: str
    instead: str


def findings(text: str, path: str) -> Iterator[Finding]:
    """Yield the words of a text that are not allowed. `path` is shown, and decides whether code is skipped."""
    if path.endswith(".md"):
        text = re.sub(r"^```.*?^```", _blank, text, flags=re.DOTALL | re.MULTILINE)
        text = re.sub(r"^(?: {4,}|\t).*$|`[^`\n]*`|\]\([^)\n]*\)|<!--.*?-->", _blank, text, flags=re.MULTILINE)
    for exception in EXCEPTIONS:
        text = text.replace(exception, "")
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", text)  # the words of a name in CamelCase
    for number, line in enumerate(text.splitlines(), 1):
        for pattern, instead in _PATTERNS:
            for match in pattern.finditer(line):
                if path in HTTP_SESSIONS and match[0].lower().startswith("session"):
                    continue
                yield Finding(path, number, match[0], instead)


def _blank(match: re.Match[str]) -> str:
    """Return the line breaks of a match, so that lines keep their numbers."""
    return "\n" * match[0].count("\n")


def covered(names: Iterable[str]) -> list[Path]:
    """Return the files to check: all covered ones, or those of the named ones that are covered."""
    files = sorted({file for pattern in COVERED for file in ROOT.glob(pattern) if file.is_file()})
    files = [file for file in files if file.relative_to(ROOT).as_posix() not in SKIPPED]
    named = {Path(name).resolve() for name in names}
    return [file for file in files if not named or file in named]


def main(names: Iterable[str]) -> int:
    """Check files and print the findings. Return the exit status."""
    found = [
        finding for file in covered(names) for finding in findings(file.read_text(encoding="utf-8"), file.relative_to(ROOT).as_posix())
    ]
    for finding in found:
        print(f"{finding.path}:{finding.line}: {finding.word!r} is not in the vocabulary; use: {finding.instead}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
