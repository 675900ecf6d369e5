# SPDX-License-Identifier: Apache-2.0
"""
Write docs/reference/api.md from the docstrings of the public classes: `python -m tests.docs.api_reference`.

The classes are read as syntax trees, so that the page is the same for the compiled modules and for the sources.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from inspect import cleandoc
from typing import Final

import apisix
from apisix import Request, Response, testing
from tests.docs.pages import CHECKOUT, DOCS

PAGE: Final = DOCS / "reference" / "api.md"
HEAD: Final = """<!-- SPDX-License-Identifier: Apache-2.0 -->
<!-- Generated from the docstrings by `make docs`. -->
# API reference

Import `Plugin`, `Request`, `Response`, `Reply`, `FormFile` and `Store` from `apisix`, the test kit from `apisix.testing`, and errors from
`apisix.runner.errors`. [Write plugins](../guides/write.md) and [Test plugins](../guides/test.md) show how to use these classes.
"""
ERRORS: Final = ("UnsupportedEdit", "BodyError", "WrongContext", "InfoUnavailable", "ChainRefused", "DeadlineExceeded", "StoreError")
CLASSES: Final = (
    *((name, apisix._homes[name]) for name in ("Plugin", "Request", "Response", "Reply", "FormFile", "Store")),
    ("Lease", apisix._homes["Store"]),
    *((name, testing._homes[name]) for name in ("Client", "Result", "ClientResponse", "UpstreamRequest", "Effect")),
    *((name, testing._homes[name]) for name in ("ReplayResult", "Difference", "RecordedCall", "RecordFile", "NotComparable")),
    *((name, "apisix.runner.errors") for name in ERRORS),
)
OFFERED: Final = {"Request": dir(Request.__new__(Request)), "Response": dir(Response.__new__(Response))}
"""What requests and responses offer to plugins. They have more names, for the runner."""

CONSTRUCTED: Final = ("Reply", "Store", "Client", "RecordFile")
"""The classes that authors construct. The arguments of the others are for the runner."""
FOR_THE_RUNNER: Final = {"Reply": {"sendable"}}

SECTION: Final = re.compile(r"(Args|Raises|Returns|Attributes|Source|Units):\s*(.*)")


@dataclass
class Member:
    """An attribute or a method of a class."""

    name: str
    signature: str = ""
    text: str = ""
    is_method: bool = False
    is_assignable: bool = False


def page() -> str:
    """Return the text of docs/reference/api.md."""
    names = [name for name, _ in CLASSES if name not in ERRORS]
    contents = ", ".join(f"[{name}](#{name.lower()})" for name in (*names, "Errors"))
    parts = [HEAD, f"{contents}.\n", *(_class_part(name, module) for name, module in CLASSES if name not in ERRORS), "## Errors\n"]
    parts += ["| error | raised if |", "|---|---|"]
    for name, module in CLASSES:
        if name in ERRORS:
            _, node = _find(name, module)
            parts.append(f"| `{name}` | {' '.join(_docstring(node).split())} |")
    return "\n".join(parts) + "\n"


def _class_part(name: str, module: str) -> str:
    _, node = _find(name, module)
    lines = [f"## {name}\n"]
    if name in CONSTRUCTED:
        (init,) = (each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__init__")
        lines += [f"`{name}{signature(init).removeprefix('__init__').removesuffix(' -> None')}`\n", _formatted(_docstring(node))]
    else:
        lines.append(_formatted(re.sub(r"^(Args|Attributes):\n(?: .*\n?)+", "", _docstring(node), flags=re.MULTILINE)))
    offered = OFFERED.get(name)
    members = {
        member.name: member
        for member in members_of(name, module)
        if member.text and (offered is None or member.name in offered) and member.name not in FOR_THE_RUNNER.get(name, ())
    }
    attributes = [member for member in members.values() if not member.is_method]
    if any(each.is_assignable for each in attributes):
        lines += ["| attribute | can be assigned | meaning |", "|---|---|---|"]
        lines += [f"| `{each.name}` | {'yes' if each.is_assignable else 'no'} | {_in_cell(each.text)} |" for each in attributes]
    elif attributes:
        lines += ["| attribute | meaning |", "|---|---|"]
        lines += [f"| `{each.name}` | {_in_cell(each.text)} |" for each in attributes]
    lines += [""] if attributes else []
    for each in members.values():
        if each.is_method and each.name.removeprefix("a") not in members.keys() - {each.name}:
            lines += [f"### `{name}.{each.signature}`\n", _formatted(each.text)]
            lines += [f"Async variant: `a{each.name}`.\n"] if f"a{each.name}" in members else []
    return "\n".join(lines)


def _find(name: str, module: str) -> tuple[ast.Module, ast.ClassDef]:
    """Return a module that defines a class, and the class."""
    path = CHECKOUT / f"{module.replace('.', '/')}.py"
    tree = ast.parse((path if path.exists() else path.with_suffix("") / "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return tree, node
    return _find(name, imported(tree, name))


def imported(tree: ast.Module, name: str) -> str:
    """Return the module from which a name is imported, "" if it is not imported from this package."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.ImportFrom)
            and node.module
            and node.module.startswith("apisix")
            and name in {each.name for each in node.names}
        ):
            return node.module
    return ""


def members_of(name: str, module: str) -> list[Member]:
    """Return the public members of a class and of its bases, those of the class first."""
    tree, node = _find(name, module)
    members = {member.name: member for member in _own_members(node)}
    for base in node.bases:
        base_name = ast.unparse(base).partition("[")[0]
        is_local = any(isinstance(each, ast.ClassDef) and each.name == base_name for each in tree.body)
        home = module if is_local else imported(tree, base_name)
        if home:
            for member in members_of(base_name, home):
                members.setdefault(member.name, member)
    return list(members.values())


def _own_members(node: ast.ClassDef) -> Iterator[Member]:
    described = dict(re.findall(r"^ {4,}(\w+): ((?:.+)(?:\n {8,}.+)*)", _section(_docstring(node), "Attributes"), re.MULTILINE))
    found: dict[str, Member] = {}
    for number, each in enumerate(node.body):
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
            following = node.body[number + 1] if number + 1 < len(node.body) else None
            is_text = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            text = cleandoc(str(following.value.value)) if is_text else described.get(each.target.id, "")  # type: ignore[union-attr]
            found[each.target.id] = Member(each.target.id, text=text)
        elif isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef)):
            decorators = [ast.unparse(decorator) for decorator in each.decorator_list]
            if {"property", "cached_property"} & set(decorators):
                found[each.name] = Member(each.name, text=_docstring(each))
            elif f"{each.name}.setter" in decorators:
                value = each.args.args[1].annotation
                found[each.name].is_assignable = value is not None and ast.unparse(value) != "Never"
            else:
                found[each.name] = Member(each.name, signature(each), _docstring(each), is_method=True)
    yield from (member for member in found.values() if not member.name.startswith("_"))


def signature(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    arguments = re.sub(r"^(self|cls)(, /)?(, )?", "", ast.unparse(node.args))
    arguments = re.sub(r"(, \*)?, _\w+: .*$", "", arguments)  # private ones come last
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{node.name}({arguments}){returns}"


def _docstring(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    return ast.get_docstring(node) or ""


def _section(text: str, name: str) -> str:
    match = re.search(rf"^{name}:\n((?: +.*\n?|\n)+)", text, re.MULTILINE)
    return match[1] if match else ""


def _formatted(text: str) -> str:
    """Return a docstring in Markdown: its sections become lists, its examples become blocks of code."""
    lines: list[str] = []
    in_section = in_example = False
    for line in [*text.splitlines(), ""]:
        match = SECTION.fullmatch(line)
        if line.startswith(">>> ") and not in_example:
            lines += ["", "```pycon", line]
            in_example = True
        elif in_example and not line:
            lines += ["```", ""]
            in_example = False
        elif match and not in_example:
            in_section = True
            lines += ["", f"{match[1]}:", "", *([f"- {match[2]}"] if match[2] else [])]
        elif in_section and line.startswith(" "):
            is_entry = len(line) - len(line.lstrip()) <= 4
            lines.append(f"- {line.strip()}" if is_entry else f"  {line.strip()}")
        else:
            in_section = in_section and not line
            lines.append(line)
    shown = re.sub(r"^- ((?:\w+, )*\w+): ", lambda match: f"- `{match[1]}`: ", "\n".join(lines), flags=re.MULTILINE)
    return re.sub(r"\n{3,}", "\n\n", shown).strip() + "\n"


def _in_cell(text: str) -> str:
    """Return a docstring in one line, for a table."""
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
