"""What is stored, carried from one store to another: exports as records, and imports of others' exports.

`export_records` and `import_records` are for records of this library (`MemoryCore.export` and
`MemoryCore.import_records`); `import_mcp_memory`, `import_mem0` and `import_store` bring in what
other memories hold.
"""

from memory_plugin.portable.exporting import export_records
from memory_plugin.portable.importing import Failure, ImportReport, import_records

__all__ = ["Failure", "ImportReport", "export_records", "import_records"]
