"""Asking a language model, whichever it is: the only code that knows how they are called."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

from memory_plugin.errors import ConfigurationError, InvalidInputError


async def ask(model: Any, prompt: str) -> str:
    """What a model says to a prompt.

    Args:
        model: a LangChain model or anything with `ainvoke` or `invoke`; or a function, plain (it runs
            in a worker thread) or async, from text to text.

    Raises:
        ConfigurationError: it is nothing that can be asked.
        InvalidInputError: it gave no text.
    """
    if hasattr(model, "ainvoke"):
        answer = await model.ainvoke(prompt)
    elif hasattr(model, "invoke"):
        answer = await asyncio.to_thread(model.invoke, prompt)
    elif inspect.iscoroutinefunction(model) or inspect.iscoroutinefunction(getattr(model, "__call__", None)):  # noqa: B004 - is it async?
        answer = await model(prompt)
    elif callable(model):
        answer = await asyncio.to_thread(model, prompt)
        if inspect.isawaitable(answer):
            answer = await answer
    else:
        raise ConfigurationError(
            f"A {type(model).__name__} is no model: pass a LangChain model, or a function from text to text."
        )
    text = _text_of(answer).strip()
    if not text:
        raise InvalidInputError("The model gave no text: ask it again, or ask another one.")
    return text


def _text_of(answer: Any) -> str:
    if isinstance(answer, str):
        return str(answer)
    text = getattr(answer, "text", None)
    if callable(text) and not isinstance(text, str):
        text = text()
    if isinstance(text, str):
        return str(text)
    content = getattr(answer, "content", None)
    return content if isinstance(content, str) else ""
