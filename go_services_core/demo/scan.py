"""Reading all that a database holds, to look for what must not be in it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final

from ..errors import StoreError

COLUMNS: Final = """
    SELECT attrelid::regclass::text, quote_ident(attname), atttypid = 'bytea'::regtype
    FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE relkind IN ('r', 'm', 'p') AND attnum > 0 AND NOT attisdropped
      AND nspname <> 'information_schema' AND nspname NOT LIKE 'pg\\_%'
    ORDER BY attrelid, attnum"""


async def sqlite(path: Path) -> AsyncGenerator[tuple[str, bytes]]:
    """Name and content of every file of the database, its log included."""
    for file in sorted(path.parent.glob(f"{path.name}*")):
        yield file.name, file.read_bytes()


async def postgres(url: str) -> AsyncGenerator[tuple[str, bytes]]:
    """Every table's name, and then again with each of its rows: all columns, as bytes or as text.

    Raises:
        StoreError: a table cannot be read.
    """
    import psycopg

    try:
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            tables: dict[str, list[str]] = {}
            cursor = await connection.execute(COLUMNS.encode())
            for table, column, is_bytes in await cursor.fetchall():
                tables.setdefault(table, []).append(column if is_bytes else f"convert_to({column}::text, 'UTF8')")
            for table, columns in tables.items():
                yield table, b""
                rows = await connection.execute(f"SELECT {', '.join(columns)} FROM ONLY {table}".encode(), binary=True)  # noqa: S608
                async for row in rows:
                    yield table, b"\0".join(value for value in row if value is not None)
    except psycopg.Error as error:
        raise StoreError(
            f"The database cannot be read: {error.diag.message_primary or type(error).__name__}."
        ) from error
