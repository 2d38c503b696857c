"""Vectors on their way to the database."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import orjson

from memory_plugin.embedding.static import static_model_is_loaded


def vector_text(vector: Sequence[float]) -> str:
    """The vector as pgvector reads it, "[0.1,-0.25]": a 32-bit float stays exact."""
    if static_model_is_loaded():  # then numpy is loaded, and writes no more digits than that takes
        import numpy as np

        packed = np.asarray(vector, dtype=np.float32)
        return orjson.dumps(packed, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    # more digits than it takes, in a tenth of the time that counting them does: here texts come one by one
    return orjson.dumps(array("f", vector).tolist()).decode()
