"""Backups of a whole store: one file, checked when it is written, put back all or nothing.

Every tenant of the schema is in it, as PostgreSQL's own `pg_dump` writes it.
"""

from __future__ import annotations

from memory_plugin.backup.manifest import Manifest, read_manifest
from memory_plugin.backup.restoring import restore_backup
from memory_plugin.backup.writing import check_backup, write_backup

__all__ = ["Manifest", "check_backup", "read_manifest", "restore_backup", "write_backup"]
