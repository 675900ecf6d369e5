# SPDX-License-Identifier: Apache-2.0
"""
Refuse a text that is nearly equal to a known one, such as a comment that a spammer sends with small changes.

When to use it: if a hook computes for more than a few milliseconds in Python code, here to compare texts. In a thread of
the worker, it would still compete with all other calls for the interpreter. `runs_in = "process"` runs it in a pool of
processes. The setting limits.processes is the size of the pool.

Task: Validation
Keywords: spam, duplicate, similar text, CPU-bound, process pool
"""

import difflib
from dataclasses import dataclass

from apisix import Plugin, Reply, Request


@dataclass
class NearDuplicateConfig:
    """The known texts, how similar a text may be (0 to 1), and how many characters are compared."""

    texts: list[str]
    similarity: float = 0.9
    length: int = 2000  # the work grows with the square of it


class NearDuplicate(Plugin[NearDuplicateConfig]):
    """Refuse texts that are similar to known ones."""

    runs_in = "process"
    needs = ("body",)  # fetched before, so that a process of the pool does not wait for it

    def __init__(self) -> None:
        # Each process of the pool creates its own instance, and keeps it for further calls.
        self._matchers: list[difflib.SequenceMatcher[str]] = []
        for text in self.config.texts:
            matcher = difflib.SequenceMatcher(a="", autojunk=False)
            matcher.set_seq2(text[: self.config.length])
            self._matchers.append(matcher)

    def on_request(self, request: Request) -> Reply | None:
        text = request.text()[: self.config.length]
        for matcher in self._matchers:
            matcher.set_seq1(text)
            if matcher.quick_ratio() >= self.config.similarity and matcher.ratio() >= self.config.similarity:
                return Reply(422, json={"error": "this text was sent before"})
        return None
