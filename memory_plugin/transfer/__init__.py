"""Moving a database of LangGraph's official PostgreSQL saver and store into this one, and back."""

from memory_plugin.transfer.langgraph import Options, export_langgraph, import_langgraph
from memory_plugin.transfer.values import ItemCounts, Progress, Report, ThreadResult

__all__ = [
    "ItemCounts",
    "Options",
    "Progress",
    "Report",
    "ThreadResult",
    "export_langgraph",
    "import_langgraph",
]
