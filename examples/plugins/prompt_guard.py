# SPDX-License-Identifier: Apache-2.0
"""
Refuse prompts that are too long, that contain forbidden text, or that bring their own system prompt.

When to use it: in front of a language model, for requests in OpenAI's format, without tools, images and files. Patterns stop the
known attacks only. Do not give the model rights that the user does not have, whatever the prompt is.

Task: AI gateway
Keywords: prompt guard, prompt injection, jailbreak, LLM firewall, OpenAI, deny list, system prompt, chat completions
"""

import json
import re
import unicodedata
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec

from apisix import Plugin, Reply, Request

# Other fields, such as `tools`, contain text for the model that is not checked.
_FIELDS = """model temperature top_p n stream stream_options stop max_tokens max_completion_tokens presence_penalty
    frequency_penalty logit_bias logprobs top_logprobs seed user store metadata service_tier reasoning_effort"""


class PromptGuardConfig(msgspec.Struct, frozen=True):
    """The patterns that are refused, in any case; the roles and fields that clients may use; and the length of all messages together."""

    deny: tuple[str, ...] = (r"ignore (all|any|the|your|previous|above|\s){1,9}instructions", r"you are now (dan|in developer mode)")
    roles: frozenset[str] = frozenset({"user", "assistant"})
    fields: frozenset[str] = frozenset(_FIELDS.split())
    max_characters: Annotated[int, msgspec.Meta(ge=1)] = 20_000

    def __post_init__(self) -> None:
        try:
            re.compile("|".join(self.deny))
        except re.error as error:
            raise ValueError(f"a pattern in deny is not a regular expression: {error}") from None


class PromptGuard(Plugin[PromptGuardConfig]):
    """Refuse prompts that are not allowed."""

    def __init__(self) -> None:
        self._deny = [re.compile(_plain(pattern), re.IGNORECASE) for pattern in self.config.deny]

    def on_request(self, request: Request) -> Reply | None:
        try:
            body = request.json()
            texts = list(self._texts(body["messages"]))
            if not set(body) <= {"messages"} | self.config.fields:
                raise ValueError("a field that is not checked")
            request.body = json.dumps(body, allow_nan=False).encode()  # in the original bytes, a name could appear twice
        except (ValueError, KeyError, TypeError):  # anything else could contain a prompt that is not checked
            return Reply(400, json={"error": {"message": "the body must be a chat request with messages of text, in the allowed roles"}})
        request.headers["content-type"] = "application/json"
        if sum(map(len, texts)) > self.config.max_characters:
            return Reply(413, json={"error": {"message": "the prompt is too long"}})
        plain = " ".join(_plain("\n".join(texts)).split())
        if any(pattern.search(plain) for pattern in self._deny):
            return Reply(403, json={"error": {"message": "the prompt is not allowed"}})
        return None

    def _texts(self, messages: list[dict[str, Any]]) -> Iterator[str]:
        """Yield the text of each message. Raise KeyError, TypeError or ValueError if there is anything else."""
        for message in messages:
            if message["role"] not in self.config.roles or set(message) != {"role", "content"}:
                raise ValueError("this role or field is not allowed")
            content = message["content"]
            for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
                if part["type"] != "text" or set(part) != {"type", "text"}:
                    raise ValueError("images and files are not checked")
                yield "" + part["text"]


def _plain(text: str) -> str:
    """Remove accents, and what hides words from patterns: invisible characters and other forms of letters."""
    letters = re.sub("[\u115f\u1160]", "", unicodedata.normalize("NFKD", text))
    return "".join(letter for letter in letters if unicodedata.category(letter) not in ("Cf", "Mn", "Me"))
