"""The database: connections, schema, migrations, the embedded server."""

SCHEMA_REVISION = "0006"
"""The migration this version of the library works with; a test holds it equal to the head."""
