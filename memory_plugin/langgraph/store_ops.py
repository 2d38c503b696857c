"""The operations of a LangGraph store as the memories take them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from langgraph.store.base import (
    GetOp,
    InvalidNamespaceError,
    ListNamespacesOp,
    Op,
    PutOp,
    SearchOp,
    get_text_at_path,
    tokenize_path,
    validate_op_namespace,
)

from memory_plugin.capabilities.memory_filters import NamespacePattern, filter_condition
from memory_plugin.capabilities.memory_items import ItemKey, ItemPut, ItemQuery, NamespaceQuery
from memory_plugin.capabilities.memory_values import searchable, searchable_ends, strings_in, user_of
from memory_plugin.errors import InvalidInputError
from memory_plugin.screening import redacted_value
from memory_plugin.validation import positive_limit

WHOLE_VALUE = "$"
NO_LIMIT = 2**31 - 1


@dataclass(slots=True)
class Batch:
    """Operations by kind, each under its place in the batch; `ranked` are searches with a query text."""

    size: int = 0
    gets: dict[int, ItemKey] = field(default_factory=dict)
    searches: dict[int, ItemQuery] = field(default_factory=dict)
    ranked: dict[int, tuple[str, ItemQuery]] = field(default_factory=dict)
    listings: dict[int, NamespaceQuery] = field(default_factory=dict)
    puts: list[ItemPut] = field(default_factory=list)


class OpReader:
    """Checks operations and sorts them by kind.

    Args:
        fields: what of a value is searched unless its put says: paths, None for every text in it.
        user_label: the position of the namespace label that is the user, None for the usual rule.
        user_id: whose items are those whose namespace names nobody.
        redacts: leave credentials out of the text that is searched.
    """

    def __init__(
        self, fields: Sequence[str] | None, user_label: int | None, user_id: str | None, *, redacts: bool = True
    ) -> None:
        self._paths = _paths(fields or [WHOLE_VALUE])
        self._user_label = user_label
        self._user_id = user_id
        self._redacts = redacts

    def read(self, ops: Iterable[Op]) -> Batch:
        """The operations as the memories take them, checked."""
        batch = Batch()
        for place, op in enumerate(ops):
            batch.size = place + 1
            validate_op_namespace(op)
            match op:
                case GetOp():
                    batch.gets[place] = ItemKey(tuple(op.namespace), str(op.key), op.refresh_ttl)
                case PutOp():
                    batch.puts.append(self._put(op))
                case SearchOp(query=None | ""):
                    batch.searches[place] = _query(op)
                case SearchOp(query=str(query)):
                    batch.ranked[place] = query, _query(op)
                case ListNamespacesOp():
                    batch.listings[place] = _namespace_query(op)
                case _:
                    raise InvalidInputError(f"{op!r:.100} is no operation of a LangGraph store.")
        return batch

    def _put(self, op: PutOp) -> ItemPut:
        namespace = tuple(op.namespace)
        if not namespace:
            raise InvalidNamespaceError("Namespace cannot be empty.")
        # the item gives back what was put; credentials in it are not found, and not shown by a search
        shown = op._replace(value=redacted_value(op.value)) if self._redacts else op
        content, ends = self._content(shown)
        return ItemPut(
            namespace,
            str(op.key),
            op.value,
            content=content,
            ends=ends,
            user_id=user_of(namespace, self._user_label) or self._user_id,
            index_fields=op.index,
            ttl_minutes=op.ttl,
        )

    def _content(self, op: PutOp) -> tuple[str, list[int] | None]:
        """The text by which an item is found, and where its parts end: each has a vector of its own."""
        if op.value is None or op.index is False:
            return "", None
        if op.index is None:
            paths = self._paths
        elif isinstance(op.index, list | tuple) and all(isinstance(path, str) for path in op.index):
            paths = _paths(op.index)
        else:
            raise InvalidInputError(f"index must be None, False or a list of paths, not {op.index!r}.")
        texts: list[str] = []
        for path in paths:
            # what is no JSON has no text here; the write says where it is
            with contextlib.suppress(TypeError):
                texts += [_whole(op.value)] if path == WHOLE_VALUE else get_text_at_path(op.value, path)
        return searchable(texts), searchable_ends(texts)


def _whole(value: Any) -> str:
    """Every text of a value as one."""
    return "\n".join(text for text in strings_in(value) if text.strip())


def _paths(fields: Sequence[str]) -> list[Any]:
    return [path if path == WHOLE_VALUE else tokenize_path(path) for path in fields]


def _query(op: SearchOp) -> ItemQuery:
    filter_condition(op.filter, "m.value")  # a filter that makes no sense stops the batch before anything is sent
    return ItemQuery(
        tuple(op.namespace_prefix),
        op.filter,
        positive_limit(op.limit, maximum=NO_LIMIT),
        positive_limit(op.offset, "offset", maximum=NO_LIMIT),
        op.refresh_ttl,
    )


def _namespace_query(op: ListNamespacesOp) -> NamespaceQuery:
    patterns = []
    for condition in op.match_conditions or ():
        if condition.match_type not in {"prefix", "suffix"}:
            raise InvalidInputError(f"A namespace is matched by prefix or suffix, not by {condition.match_type!r}.")
        patterns.append(NamespacePattern(condition.match_type, tuple(condition.path)))
    return NamespaceQuery(
        patterns,
        op.max_depth if op.max_depth is None else positive_limit(op.max_depth, "max_depth", maximum=NO_LIMIT),
        positive_limit(op.limit, maximum=NO_LIMIT),
        positive_limit(op.offset, "offset", maximum=NO_LIMIT),
    )
