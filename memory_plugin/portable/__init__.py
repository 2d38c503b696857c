"""What is stored, carried from one store to another: exports as records, and imports of others' exports.

`export_records` and `import_records` are for records of this library (`MemoryCore.export` and
`MemoryCore.import_records`), `write_export` and `read_lines` for their files; `import_mcp_memory`,
`import_mem0` and `import_store` bring in what other memories hold.
"""

from memory_plugin.portable.base_store import import_store
from memory_plugin.portable.exporting import export_records
from memory_plugin.portable.facts import FactsReport
from memory_plugin.portable.files import read_document, read_lines, write_export
from memory_plugin.portable.importing import Failure, ImportReport, import_records
from memory_plugin.portable.mcp_memory import import_mcp_memory
from memory_plugin.portable.mem0 import import_mem0

__all__ = [
    "FactsReport",
    "Failure",
    "ImportReport",
    "export_records",
    "import_mcp_memory",
    "import_mem0",
    "import_records",
    "import_store",
    "read_document",
    "read_lines",
    "write_export",
]
