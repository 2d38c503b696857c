"""The names that other programs use, and what they promise about each other."""

from __future__ import annotations

import inspect
import subprocess
import sys

import memory_plugin
import memory_plugin.langchain
import memory_plugin.langgraph
from memory_plugin import errors


def test_every_exported_name_is_there_and_the_list_is_sorted() -> None:
    for module in (memory_plugin, memory_plugin.langchain, memory_plugin.langgraph):
        assert list(module.__all__) == sorted(module.__all__)
        for name in module.__all__:
            assert getattr(module, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(memory_plugin, "Nothing")
    assert not hasattr(memory_plugin.langgraph, "Nothing")


def test_every_error_belongs_to_the_tree_that_the_docstring_draws() -> None:
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)]
    assert all(issubclass(kind, errors.MemoryPluginError) for kind in kinds)
    drawn = errors.__doc__ or ""
    assert [kind.__name__ for kind in kinds if kind.__name__ not in drawn] == []


def test_importing_the_package_loads_nothing_heavy() -> None:
    program = "import sys, memory_plugin; print([m for m in ('sqlalchemy', 'langchain_core', 'numpy', 'pydantic') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
        == "[]"
    )


def test_the_core_loads_no_framework() -> None:
    program = (
        "import sys\n"
        "from memory_plugin.core import MemoryCore\n"
        "import memory_plugin.capabilities.conversations, memory_plugin.recall, memory_plugin.capabilities.references\n"
        "print([m for m in ('langchain_core', 'langgraph', 'mcp', 'numpy', 'alembic') if m in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
        == "[]"
    )
