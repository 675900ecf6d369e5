# SPDX-License-Identifier: Apache-2.0
"""
Limit the depth and the size of GraphQL queries (`pip install graphql-core`).

When to use it: if clients that you do not control can send queries. A short query can ask for friends of friends of
friends, and make the upstream load its whole database. Requests without a query, such as persisted queries, and batches
are refused. The upstream gets the four fields of GraphQL over HTTP, and no others.

Task: Validation
Keywords: GraphQL, query depth, depth limit, query complexity, nested query, denial of service, fragments
"""

import json
from typing import Annotated

import msgspec
from graphql import FieldNode, FragmentDefinitionNode, FragmentSpreadNode, GraphQLSyntaxError, InlineFragmentNode, SelectionSetNode, parse

from apisix import Plugin, Reply, Request

_NAMES = ("query", "operationName", "variables", "extensions")


class GraphqlDepthConfig(msgspec.Struct, frozen=True):
    """The limits. The query `{a {b}}` has the depth 2, and six tokens."""

    max_depth: Annotated[int, msgspec.Meta(ge=1)] = 8
    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1000


class GraphqlDepth(Plugin[GraphqlDepthConfig]):
    """Refuse GraphQL queries that are too deep or too long."""

    needs = ("body",)

    def on_request(self, request: Request) -> Reply | None:
        queries: list[object] = [*request.args.getall("query", [])]  # some servers prefer it to that of the body
        try:
            if len(request.args) >= 100:  # the gateway sends no more of them, but the upstream gets all
                raise ValueError("too many arguments")
            if request.read():
                body = request.json()
                queries.append(body["query"])
                # The upstream must not find another query, such as an earlier "query", or a "Query" if it ignores the case of names.
                request.body = json.dumps({name: body[name] for name in _NAMES if name in body}).encode()
                request.headers["content-type"] = "application/json"
            depths = [self._depth_of(query) for query in queries]
        except (ValueError, KeyError, TypeError, GraphQLSyntaxError, RecursionError):
            return Reply(400, json={"errors": [{"message": "the request must have one GraphQL query, of limited length"}]})
        if not depths or max(depths) > self.config.max_depth:
            return Reply(400, json={"errors": [{"message": f"queries may have a depth of 1 to {self.config.max_depth}"}]})
        return None

    def _depth_of(self, query: object) -> int:
        if not isinstance(query, str):
            raise TypeError("the query is not text")
        document = parse(query, no_location=True, max_tokens=self.config.max_tokens)
        fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
        depths: dict[str, int] = {}  # each fragment is visited once, or fragments of fragments would take exponential time

        def depth(selected: SelectionSetNode | None) -> int:
            deepest = 0
            for node in selected.selections if selected else ():
                if isinstance(node, FieldNode):
                    deepest = max(deepest, 1 + depth(node.selection_set))
                elif isinstance(node, InlineFragmentNode):
                    deepest = max(deepest, depth(node.selection_set))
                elif isinstance(node, FragmentSpreadNode):
                    name = node.name.value
                    if name not in depths:
                        depths[name] = 1_000_000  # while it is visited: a fragment that contains itself is too deep
                        depths[name] = depth(fragments[name].selection_set)
                    deepest = max(deepest, depths[name])
            return deepest

        return max((depth(getattr(node, "selection_set", None)) for node in document.definitions), default=0)
