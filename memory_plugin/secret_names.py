"""Names that say that a value is a credential, and dropping such values before they are stored."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

SECRET_NAMES: frozenset[str] = frozenset(
    {
        "access_key",
        "access_tokens",
        "account_key",
        "api_key",
        "api_keys",
        "apikey",
        "apikeys",
        "auth_header",
        "auth_tokens",
        "authorization",
        "basic_auth",
        "bearer",
        "client_key",
        "connection_string",
        "cookie",
        "cookies",
        "credential",
        "credentials",
        "dsn",
        "encryption_key",
        "jwt",
        "passphrase",
        "passwd",
        "password",
        "passwords",
        "private_key",
        "pwd",
        "refresh_tokens",
        "secret",
        "secrets",
        "service_account",
        "shared_key",
        "signing_key",
        "ssh_key",
        "token",
    }
)
"""What credentials are called, as words joined by `_`. A name that has these words in a row is one."""

_COUNTING = frozenset(
    {
        "budget",
        "cost",
        "count",
        "counts",
        "index",
        "input",
        "kind",
        "len",
        "length",
        "limit",
        "limits",
        "max",
        "min",
        "num",
        "number",
        "offset",
        "output",
        "price",
        "rate",
        "size",
        "total",
        "type",
        "usage",
        "used",
        "window",
    }
)
_JOINED = ("accesskey", "accesstoken", "apikey", "authtoken", "privatekey", "secretkey")
# aB | ABc | a1: where a name in camel case or capitals has its borders
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
# LangGraph's own, whose keys are names of namespaces and channels.
_STRUCTURE = frozenset({"parents", "counters_since_delta_snapshot"})


def is_secret_name(name: str, extra: Collection[str] = ()) -> bool:
    """Whether a value under this name is a credential, judged by whole words, in any writing.

    `openai_api_key`, `x-api-key`, `accessToken` and `DB_PASSWORD` are; `max_tokens`, `token_count`
    and `tokenizer` are not. `extra` adds names, compared like `SECRET_NAMES`.
    """
    if len(name) > 256:
        return False
    return _is_secret(name, SECRET_NAMES.union(map(_joined, extra)) if extra else SECRET_NAMES)


def drop_secrets(mapping: Mapping[str, Any], *, extra: Collection[str] = ()) -> dict[str, Any]:
    """A copy without the entries that are credentials by name, at any depth of dicts and lists.

    What has nothing to drop is shared with the original, not copied. `extra` adds names.
    """
    names = SECRET_NAMES.union(map(_joined, extra)) if extra else SECRET_NAMES
    kept: dict[str, Any] = {}
    for key, value in mapping.items():
        if isinstance(key, str) and len(key) <= 256 and _is_secret(key, names):
            continue
        kept[key] = value if key in _STRUCTURE else _cleaned(value, names, 16)
    return kept


def _cleaned(value: Any, names: frozenset[str], depth: int) -> Any:
    if depth == 0:
        return value
    if type(value) is dict:
        kept = {
            key: _cleaned(item, names, depth - 1)
            for key, item in value.items()
            if not (type(key) is str and len(key) <= 256 and _is_secret(key, names))
        }
        same = len(kept) == len(value) and all(kept[key] is item for key, item in value.items())
        return value if same else kept
    if type(value) is list or type(value) is tuple:
        items = [_cleaned(item, names, depth - 1) for item in value]
        same = all(new is old for new, old in zip(items, value, strict=True))
        return value if same else type(value)(items)
    return value


def _joined(name: str) -> str:
    return "_".join(word.lower() for word in _WORDS.findall(name))


@lru_cache(maxsize=4096)
def _is_secret(name: str, names: frozenset[str]) -> bool:
    words = [word.lower() for word in _WORDS.findall(name)]
    if any(word.endswith(_JOINED) for word in words):
        return True
    padded = f"_{'_'.join(words)}_"
    found = {secret for secret in names if f"_{secret}_" in padded}
    # "token" alone also counts what models read and write.
    if found == {"token"} and not _COUNTING.isdisjoint(words):
        return False
    return bool(found)
