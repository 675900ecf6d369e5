# SPDX-License-Identifier: Apache-2.0
"""Derive the names that routes use from the names of classes and files."""

import re

_WORD_STARTS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def words_of(class_name: str) -> list[str]:
    """
    Split a name at underscores, hyphens and capital letters, and return the words in lower case.

    >>> words_of("KeyAuth"), words_of("JWTAuth"), words_of("my_plugin")
    (['key', 'auth'], ['jwt', 'auth'], ['my', 'plugin'])
    """
    return [word for word in re.split(r"[-_]+", _WORD_STARTS.sub("-", class_name).lower()) if word]


def kebab_case(class_name: str) -> str:
    """
    Return the name of a class as routes use it.

    >>> kebab_case("KeyAuth"), kebab_case("ABoom"), kebab_case("Stop1")
    ('key-auth', 'a-boom', 'stop1')
    """
    return "-".join(words_of(class_name))


def snake_case(class_name: str) -> str:
    """
    Return the name of a class as files use it.

    >>> snake_case("MyPlugin")
    'my_plugin'
    """
    return "_".join(words_of(class_name))
