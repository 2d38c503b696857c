"""Opens the tokenizer of a package without the memory it would collect."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def open_tokenizer(file: Path) -> Tokenizer:
    """The tokenizer in a file, its library's memory of words turned off where a text is one word to it.

    The library keeps 10,000 words of up to 256 bytes for each tokenizer. One that does not split texts into
    words first, as Llama's, has short texts kept whole: 75 MB in time, and it is no faster for it.

    Raises:
        Exception: whatever the library makes of a file that it cannot read.
    """
    from tokenizers import Tokenizer

    tokenizer: Tokenizer = Tokenizer.from_file(str(file))
    resize = getattr(tokenizer.model, "_resize_cache", None)  # not one of the public names
    if resize is not None and tokenizer.pre_tokenizer is None:
        resize(0)
    return tokenizer
