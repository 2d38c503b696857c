"""Settings from the environment: every variable is `MEMORY_` and the name of the field."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, InstanceOf, SecretStr, ValidationError
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from memory_plugin.durations import duration
from memory_plugin.errors import ConfigurationError
from memory_plugin.telemetry import Telemetry
from memory_plugin.types import Retention, SecretsPolicy


def _duration(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return duration(value)
    except ValueError as error:
        raise PydanticCustomError("duration", "{reason}", {"reason": str(error)}) from error


Duration = Annotated[timedelta, BeforeValidator(_duration), Field(gt=timedelta(0), le=timedelta(days=36_500))]


class Settings(BaseSettings):
    """What can be set from outside; arguments of `Memory.open` win over these."""

    model_config = SettingsConfigDict(env_prefix="MEMORY_", extra="ignore", frozen=True, env_ignore_empty=True)

    database_url: SecretStr | None = Field(
        default=None,
        description="postgresql:// URL of the database; unset means the embedded PostgreSQL",
    )
    data_dir: Path | None = Field(
        default=None,
        description="where the embedded PostgreSQL keeps its data; unset means the user's data directory",
    )
    tenant: str = Field(default="default", min_length=1, description="the tenant whose rows are seen")
    user_id: str | None = Field(default=None, description="the user that facts belong to when none is named")
    db_schema: str = Field(
        default="memory", validation_alias="MEMORY_SCHEMA", description="the PostgreSQL schema of the tables"
    )
    embeddings: str | None = Field(
        default=None,
        description="'provider:model' for a LangChain embedder, "
        "'none' for words alone; unset means the offline default",
    )
    document_embeddings: str | None = Field(
        default=None,
        description="the model for documents alone: 'onnx', 'provider:model', or 'none'; unset means 'onnx' beside the "
        "offline default, for up to 20,000 passages",
    )
    embedding_timeout: float = Field(
        default=5.0, gt=0, description="seconds that a search waits for the vector of its query; then words alone"
    )
    vector_index_from: int = Field(
        default=20_000, ge=0, description="vectors of a model from which on they get an index by themselves; 0 is never"
    )
    pool_size: int = Field(
        default=8, ge=0, le=1000, description="connections kept at the most; 0 opens one for each operation"
    )
    connect_timeout: float = Field(default=10.0, gt=0, description="seconds to wait for a connection")
    statement_timeout: float | None = Field(
        default=None, gt=0, description="seconds after which the database ends a statement; unset means its own setting"
    )
    retry_seconds: float = Field(
        default=10.0, ge=0, description="seconds for which an operation is tried again when its connection failed"
    )
    prepared_statements: bool = Field(
        default=True,
        description="use named prepared statements; set to false behind a pooler that does not track them",
    )
    row_security: Literal["auto", "required", "off"] = Field(
        default="auto",
        description="work as the role memory_app, for which row security holds: auto where the login may, "
        "required to refuse otherwise, off to rely on the statements alone",
    )
    language: str = Field(default="english", description="text search configurations for stemming and stop words")
    secrets: SecretsPolicy = Field(
        default="refuse", description="what happens to credentials in facts: refuse, redact or allow"
    )
    buffer_limit: int = Field(
        default=10_240, ge=0, description="bytes of agent state kept readable in conversations.memory_buffer; 0 is off"
    )
    checkpoint_cache: int = Field(
        default=64, ge=0, description="megabytes for the messages of threads used last; 0 keeps the last thread only"
    )
    checkpoint_types: Literal["data", "any"] = Field(
        default="data", description="classes that reading a checkpoint may build: those that hold data, or any"
    )
    retention_keep_last: int | None = Field(
        default=None, ge=1, lt=2**31, description="checkpoints kept of each namespace of a thread; unset keeps all"
    )
    retention_keep_for: Duration | None = Field(
        default=None, description="how long checkpoints are kept, such as 30d or 12h; unset means for ever"
    )
    retention_expire_after: Duration | None = Field(
        default=None, description="how long a thread may be idle before it expires, such as 90d; unset means for ever"
    )
    retention_expire: Literal["thread", "checkpoints"] = Field(
        default="thread", description="what goes when a thread expires: all of it, or its checkpoints alone"
    )
    retention_every: Duration | None = Field(
        default=None, description="how often an open store applies retention by itself, such as 1h; unset means never"
    )
    reference_urls: str | None = Field(
        default=None,
        description="hosts whose documents may be fetched, with commas, such as docs.example.com, *.example.org, "
        "http://10.0.0.7:8080, or * for all; unset fetches nothing",
    )
    reference_networks: str | None = Field(
        default=None,
        description="networks that are not public and may be fetched from all the same, with commas, "
        "such as 10.0.0.0/8",
    )
    reference_url_timeout: float = Field(
        default=30.0, gt=0, le=3600, description="seconds in which a document must have been fetched"
    )
    reference_url_bytes: int = Field(default=33_554_432, gt=0, description="bytes that a document from a URL may have")
    telemetry: bool | InstanceOf[Telemetry] = Field(
        default=False, description="give spans and measurements to OpenTelemetry"
    )
    telemetry_ids: bool = Field(
        default=False, description="put the ids of users, threads and memories on spans; they may be personal data"
    )

    def retention(self) -> Retention:
        """The policy that is in force where a thread has none of its own."""
        return Retention(
            keep_last=self.retention_keep_last,
            keep_for=self.retention_keep_for,
            expire_after=self.retention_expire_after,
            expire=self.retention_expire,
        )


def get_settings() -> Settings:
    """The settings of the environment as it is now.

    Raises:
        ConfigurationError: a variable holds what it cannot; the message names it.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "a setting"
        variable = name if name.startswith("MEMORY_") else f"MEMORY_{name.upper()}"
        raise ConfigurationError(f"{variable} cannot be used: {first['msg']}.") from error
