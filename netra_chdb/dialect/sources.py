"""What a statement reads, told while it is compiled: nothing that is rendered gets past its compiler."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from sqlalchemy.sql import compiler

__all__ = ["Sources", "SourcesCompiler"]

# Of an operator's own text: symbols, or a word that takes no table on its right.
_PLAIN_OPERATOR: Final = re.compile(r"[^\w\s()'\"`;,]{1,3}|(?!(?:GLOBAL|IN|NOT)\b)[A-Z]+", re.IGNORECASE)


@dataclass(slots=True)
class Sources:
    """What a statement names.

    Attributes:
        tables: the tables in FROM, wherever a FROM stands; not the one that an INSERT, UPDATE or DELETE changes.
        table_functions: the functions in FROM.
        functions: all functions.
        settings: the names in SETTINGS.
        text: pieces of SQL that were given as text.
    """

    tables: set[Any] = field(default_factory=set)
    table_functions: set[str] = field(default_factory=set)
    functions: set[str] = field(default_factory=set)
    settings: set[str] = field(default_factory=set)
    text: list[str] = field(default_factory=list)


class SourcesCompiler(compiler.SQLCompiler):
    """Notes what it renders in ``sources``."""

    @cached_property
    def sources(self) -> Sources:
        """What the statement names."""
        return Sources()

    def visit_table(self, table: Any, asfrom: Any = False, iscrud: Any = False, *args: Any, **kw: Any) -> str:
        if not iscrud:
            self.sources.tables.add(table)
        return str(super().visit_table(table, asfrom, iscrud, *args, **kw))

    def visit_function(self, func: Any, *args: Any, **kw: Any) -> str:
        name = ".".join((*getattr(func, "packagenames", ()), func.name))
        self.sources.functions.add(name)
        # Its arguments stand in no FROM.
        if kw.pop("asfrom", False):
            self.sources.table_functions.add(name)
        return str(super().visit_function(func, *args, **kw))

    def visit_clickhouse_setting(self, setting: Any, **kw: Any) -> str:
        self.sources.settings.add(setting.name)
        return str(super().visit_clickhouse_setting(setting, **kw))  # type: ignore[misc]

    # -- text ------------------------------------------------------------------

    def visit_textclause(self, textclause: Any, *args: Any, **kw: Any) -> str:
        self.sources.text.append(textclause.text)
        return str(super().visit_textclause(textclause, *args, **kw))

    def visit_column(self, column: Any, *args: Any, **kw: Any) -> str:
        # count() and exists() have a star of this kind.
        if column.is_literal and column.name != "*":
            self.sources.text.append(column.name)
        return str(super().visit_column(column, *args, **kw))

    def visit_custom_op_binary(self, element: Any, operator: Any, **kw: Any) -> str:
        self._note_operator(operator)
        return str(super().visit_custom_op_binary(element, operator, **kw))

    def visit_custom_op_unary_operator(self, element: Any, operator: Any, **kw: Any) -> str:
        self._note_operator(operator)
        return str(super().visit_custom_op_unary_operator(element, operator, **kw))

    def visit_custom_op_unary_modifier(self, element: Any, operator: Any, **kw: Any) -> str:
        self._note_operator(operator)
        return str(super().visit_custom_op_unary_modifier(element, operator, **kw))

    def _note_operator(self, operator: Any) -> None:
        if not _PLAIN_OPERATOR.fullmatch(operator.opstring):
            self.sources.text.append(operator.opstring)

    def _setup_select_hints(self, select: Any) -> Any:
        self.sources.text += select._hints.values()
        return super()._setup_select_hints(select)

    def get_statement_hint_text(self, hint_texts: Any) -> str:
        self.sources.text += hint_texts
        return str(super().get_statement_hint_text(hint_texts))
