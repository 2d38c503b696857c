"""Which model the demo and the examples talk to."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from memory_plugin.errors import UnsupportedError

if TYPE_CHECKING:
    from langchain_core.language_models.chat_models import BaseChatModel

LOCAL_MODEL = "local"
MODEL_VARIABLE = "MEMORY_DEMO_MODEL"

_HOSTED = (
    ("ANTHROPIC_API_KEY", "langchain_anthropic", "anthropic:claude-haiku-4-5"),
    ("OPENAI_API_KEY", "langchain_openai", "openai:gpt-4.1-mini"),
)


def choose_model(environment: Mapping[str, str] | None = None) -> str:
    """The name of the model to use.

    The one that MEMORY_DEMO_MODEL names; else that of a key in the environment whose package is
    installed; else "local".
    """
    environment = os.environ if environment is None else environment
    named = environment.get(MODEL_VARIABLE)
    if named:
        return named
    if importlib.util.find_spec("langchain") is not None:
        for key, package, model in _HOSTED:
            if environment.get(key) and importlib.util.find_spec(package) is not None:
                return model
    return LOCAL_MODEL


def make_model(name: str | None = None) -> BaseChatModel:
    """The model of that name: "local", or "provider:model" as LangChain's `init_chat_model` takes it.

    Args:
        name: None takes what `choose_model` finds.

    Raises:
        UnsupportedError: a hosted model is named and its packages are not installed.
    """
    name = choose_model() if name is None else name
    if name == LOCAL_MODEL:
        from memory_plugin.demo.model import LocalModel

        return LocalModel()
    try:
        from langchain.chat_models import init_chat_model

        model: BaseChatModel = init_chat_model(name, temperature=0)
    except ImportError as error:
        raise UnsupportedError(
            f'The model {name!r} needs a package ({error}): run pip install "memory-plugin[langchain]" and '
            f"install its provider, or set {MODEL_VARIABLE}={LOCAL_MODEL}."
        ) from error
    return model
