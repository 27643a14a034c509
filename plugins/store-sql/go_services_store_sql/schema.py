"""The DDL that peewee writes from the models.

Migrations are frozen text, so that a database made by an old release and one made today agree; this module writes that
text for a new migration, and a test compares the migrated schema with it::

    python -m go_services_store_sql.schema sqlite
"""

from __future__ import annotations

import sys
from typing import Any

from peewee import SchemaManager

from .dialect import POSTGRES, SQLITE, Dialect
from .models import MODELS, TRIGGERS

DIALECTS = {dialect.name: dialect for dialect in (SQLITE, POSTGRES)}


def ddl(dialect: Dialect) -> list[str]:
    """CREATE statements for all tables, indexes and triggers, in the order in which they can run."""
    statements: list[str] = []
    for model in MODELS:
        manager: Any = SchemaManager(model, dialect.database)  # the methods that give text are not in its stub
        for context in (manager._create_table(safe=False), *manager._create_indexes(safe=False)):
            text, values = context.query()
            if values:
                raise ValueError(f"{model.__name__}: DDL takes no parameters; write the condition as SQL text")
            statements.append(text)
    return [*statements, *(trigger.text for trigger in TRIGGERS[dialect.name])]


if __name__ == "__main__":
    sys.stdout.write(";\n\n".join(ddl(DIALECTS[sys.argv[1]])) + ";\n")
