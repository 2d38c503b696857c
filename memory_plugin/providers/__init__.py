"""Memory over tables that an application already has, in PostgreSQL, MySQL, MariaDB or SQLite.

provider = TableMemoryProvider(engine, messages_table=chat_messages, working_memory_table=notes)
await provider.save_message("chat-1", ("user", "Hello"), user_id="alice")
"""

from __future__ import annotations

from memory_plugin.providers.checking import TableProblem, TableReport
from memory_plugin.providers.definitions import messages_table, working_memory_table
from memory_plugin.providers.message_rows import StoredMessage
from memory_plugin.providers.provider import TableMemoryProvider

__all__ = [
    "StoredMessage",
    "TableMemoryProvider",
    "TableProblem",
    "TableReport",
    "messages_table",
    "working_memory_table",
]
