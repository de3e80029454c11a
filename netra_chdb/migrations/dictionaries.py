"""Operations on dictionaries: made, dropped, and traded for another in one statement.

A dictionary holds no rows of its own, so that a new one takes the old one's place and nothing is lost.
"""

from __future__ import annotations

from typing import Any

from alembic.operations import MigrateOperation, Operations
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.ddl import ExecutableDDLElement

from netra_chdb.migrations.operations import OnObject, Reversible, execute_reversible, named

__all__ = ["MakeDictionary", "ReplaceDictionary"]


class DictionaryDefinition(ExecutableDDLElement):
    """``CREATE [OR REPLACE] DICTIONARY name`` and what follows, as text."""

    inherit_cache = False

    def __init__(self, name: str, definition: str, schema: str | None, *, replace: bool = False) -> None:
        self.dictionary, self.definition, self.replace = named(name, schema), definition, replace


@compiles(DictionaryDefinition, "clickhouse")
def _definition(element: DictionaryDefinition, compiler: Any, **kw: Any) -> str:
    verb = "CREATE OR REPLACE DICTIONARY" if element.replace else "CREATE DICTIONARY"
    name = compiler.preparer.format_table(element.dictionary)
    text = element.definition.replace("%", "%%")
    return f"{verb} {name}{compiler.on_cluster(element.dictionary)} {text}"


@Operations.register_operation("create_dictionary")
@Operations.register_operation("drop_dictionary")
class MakeDictionary(Reversible):
    """``op.create_dictionary(name, definition, schema=)``, and its reverse."""

    def __init__(self, name: str, definition: str, *, schema: str | None = None, create: bool = True) -> None:
        make = DictionaryDefinition(name, definition, schema)
        drop = OnObject("DROP DICTIONARY", named(name, schema), end="SYNC")
        super().__init__(*((make, drop) if create else (drop, make if definition else None)))
        self.name, self.definition, self.schema, self.create = name, definition, schema, create

    def reverse(self) -> MigrateOperation:
        """Return the operation that takes this one back."""
        if not self.definition:
            return super().reverse()
        return MakeDictionary(self.name, self.definition, schema=self.schema, create=not self.create)

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return what ``alembic check`` prints."""
        return ("add_dictionary" if self.create else "remove_dictionary", f"{self.schema}.{self.name}")

    @classmethod
    def create_dictionary(cls, operations: Operations, name: str, definition: str, *, schema: str | None = None) -> Any:
        """Create a dictionary from ClickHouse's own words.

        Args:
            operations: given by Alembic.
            name: the dictionary's name.
            definition: what stands behind the name: attributes in brackets, PRIMARY KEY, SOURCE, LAYOUT, LIFETIME. A
                password is no part of a revision: name a named collection as the source.
            schema: the database.
        """
        return operations.invoke(cls(name, definition, schema=schema))

    @classmethod
    def drop_dictionary(
        cls, operations: Operations, name: str, *, definition: str = "", schema: str | None = None
    ) -> Any:
        """Drop a dictionary; with ``definition`` it can be made again."""
        return operations.invoke(cls(name, definition, schema=schema, create=False))


@Operations.register_operation("replace_dictionary")
class ReplaceDictionary(Reversible):
    """``op.replace_dictionary(name, definition, old_definition=, schema=)``."""

    def __init__(self, name: str, definition: str, old_definition: str = "", *, schema: str | None = None) -> None:
        self.name, self.schema = name, schema
        self.definition, self.old_definition = definition, old_definition
        new, old = (
            DictionaryDefinition(name, text, schema, replace=True) if text else None
            for text in (definition, old_definition)
        )
        super().__init__(new, old)

    def reverse(self) -> MigrateOperation:
        """Return the operation that takes this one back."""
        if not self.old_definition:
            return super().reverse()
        return ReplaceDictionary(self.name, self.old_definition, self.definition, schema=self.schema)

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return what ``alembic check`` prints."""
        return ("replace_dictionary", f"{self.schema}.{self.name}", self.definition)

    @classmethod
    def replace_dictionary(
        cls,
        operations: Operations,
        name: str,
        definition: str,
        *,
        old_definition: str = "",
        schema: str | None = None,
    ) -> Any:
        """Put another dictionary in the place of one; who asks meanwhile is answered by the old or the new one."""
        return operations.invoke(cls(name, definition, old_definition, schema=schema))


for _operation in (MakeDictionary, ReplaceDictionary):
    Operations.implementation_for(_operation)(execute_reversible)
