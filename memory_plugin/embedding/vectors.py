"""Vectors on their way to the database."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import orjson

from memory_plugin.embedding.static import static_model_is_loaded


def vector_text(vector: Sequence[float]) -> str:
    """The vector as pgvector reads it, "[0.1,-0.25]": the fewest digits that keep a 32-bit float exact."""
    if static_model_is_loaded():  # then numpy is loaded, and four times as fast
        import numpy as np

        packed = np.asarray(vector, dtype=np.float32)
        return orjson.dumps(packed, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    return _vector_format(len(vector)) % tuple(vector)


@lru_cache(maxsize=16)
def _vector_format(width: int) -> str:
    return "[" + ",".join(["%.9g"] * width) + "]"
