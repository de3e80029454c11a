"""Operators and clauses of SQLAlchemy's that ClickHouse writes in its own way, or understands as something else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import exc as sa_exc
from sqlalchemy.sql import compiler, operators, selectable, sqltypes

from netra_chdb.dialect.literals import literal

__all__ = ["NO_LOCKS", "StandardSQL"]

NO_LOCKS: Final = "ClickHouse locks no rows: FOR UPDATE, asked for by with_for_update(), would be no lock"
_KEEPS_NULLS: Final = (21, 8)
_ORDERS: Final = {
    operators.asc_op: "ASC",
    operators.desc_op: "DESC",
    operators.nulls_first_op: "NULLS FIRST",
    operators.nulls_last_op: "NULLS LAST",
}
_KEYWORD: Any = selectable._CompoundSelectKeyword


class StandardSQL(compiler.SQLCompiler):
    """What the standard says, said so that ClickHouse does it."""

    dialect: Any

    #: ClickHouse's SETTINGS under which the statement means what SQLAlchemy means by it. They are sent beside its text:
    #: what the caller says in a SETTINGS clause or in ``execution_options(settings=...)`` is stronger.
    standard_settings: Mapping[str, int] = {}

    def visit_join(self, join: Any, *args: Any, **kw: Any) -> str:
        if join.isouter or getattr(join.full, "kind", "FULL" if join.full else "") in ("LEFT", "RIGHT", "FULL"):
            # A row without a match otherwise comes with zeros and empty texts, and an ORM entity is made of them.
            self.standard_settings = {**self.standard_settings, "join_use_nulls": 1}
        return str(super().visit_join(join, *args, **kw))

    def visit_cast(self, cast: Any, **kw: Any) -> str:
        if not self.dialect.server_before(*_KEEPS_NULLS):
            # A NULL stays one; otherwise it is an error.
            self.standard_settings = {**self.standard_settings, "cast_keep_nullable": 1}
        return str(super().visit_cast(cast, **kw))

    # A bare UNION is refused, and a bare INTERSECT or EXCEPT keeps duplicates.
    compound_keywords = {  # noqa: RUF012
        _KEYWORD.UNION: "UNION DISTINCT",
        _KEYWORD.UNION_ALL: "UNION ALL",
        _KEYWORD.EXCEPT: "EXCEPT DISTINCT",
        _KEYWORD.EXCEPT_ALL: "EXCEPT ALL",
        _KEYWORD.INTERSECT: "INTERSECT DISTINCT",
        _KEYWORD.INTERSECT_ALL: "INTERSECT ALL",
    }

    def visit_compound_select(self, cs: Any, asfrom: bool = False, compound_index: Any = None, **kw: Any) -> str:
        if cs._for_update_arg is not None:
            raise sa_exc.CompileError(NO_LOCKS)
        ordered = bool(cs._order_by_clauses) or cs._has_row_limiting_clause
        if not ordered:
            return str(super().visit_compound_select(cs, asfrom=asfrom, compound_index=compound_index, **kw))
        # ORDER BY and LIMIT behind a UNION belong to its last SELECT alone: they need a query around the whole.
        return self._around(cs, asfrom=asfrom, compound_index=compound_index, **kw)

    def _around(self, cs: Any, **kw: Any) -> str:
        bare = cs._generate()
        bare._order_by_clauses = ()
        bare._limit_clause = bare._offset_clause = bare._fetch_clause = None
        text = super().visit_compound_select(bare, **kw)
        # With whatever WITH the compiler put in front: a subquery may begin with it.
        text = f"SELECT * FROM ({text})"  # noqa: S608
        entry = self._default_stack_entry if not self.stack else self.stack[-1]
        state = cs._compile_state_factory(cs, self)
        self.stack.append({**entry, "selectable": cs, "compile_state": state})
        inner = {**kw, "include_table": False}
        inner.pop("asfrom", None)
        inner.pop("compound_index", None)
        text += self.order_by_clause(cs, **inner)
        if cs._has_row_limiting_clause:
            text += self._row_limit_clause(cs, **inner)
        self.stack.pop(-1)
        return str(text)

    def fetch_clause(self, select: Any, *args: Any, **kw: Any) -> str:
        # ClickHouse's own FETCH wants an ORDER BY and knows no PERCENT; its LIMIT does all of it.
        count, options = self.process(select._fetch_clause, **kw), select._fetch_clause_options
        if options["percent"]:
            # LIMIT takes a share for one if it is below 1: 100 percent would be one row.
            count = f"least(({count}) / 100, 0.999999999999)"
        offset = "" if select._offset_clause is None else f"{self.process(select._offset_clause, **kw)}, "
        return f"\n LIMIT {offset}{count}{' WITH TIES' if options['with_ties'] else ''}"

    # -- ORDER BY: ClickHouse writes a collation behind the direction, and its name as text --------------

    def visit_collation(self, element: Any, **kw: Any) -> str:
        return self._text(element.collation)

    def _order(self, element: Any, words: str, **kw: Any) -> tuple[str, str]:
        if getattr(element, "modifier", None) in _ORDERS:
            return self._order(element.element, f"{_ORDERS[element.modifier]} {words}", **kw)
        if getattr(element, "operator", None) is operators.collate:
            return f"{self.process(element.left, **kw)} {words}", f" COLLATE {self.process(element.right, **kw)}"
        return f"{self.process(element, **kw)} {words}", ""

    def visit_unary(self, unary: Any, *args: Any, **kw: Any) -> str:
        if unary.modifier not in _ORDERS:
            return str(super().visit_unary(unary, *args, **kw))
        return "".join(self._order(unary.element, _ORDERS[unary.modifier], **kw))

    # -- operators -------------------------------------------------------------

    def _call(self, name: str, binary: Any, **kw: Any) -> str:
        return f"{name}({self.process(binary.left, **kw)}, {self.process(binary.right, **kw)})"

    def visit_bitwise_or_op_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        return self._call("bitOr", binary, **kw)

    def visit_bitwise_and_op_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        return self._call("bitAnd", binary, **kw)

    def visit_bitwise_xor_op_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        return self._call("bitXor", binary, **kw)

    def visit_bitwise_lshift_op_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        return self._call("bitShiftLeft", binary, **kw)

    def visit_bitwise_rshift_op_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        return self._call("bitShiftRight", binary, **kw)

    def visit_bitwise_not_op_unary_operator(self, unary: Any, operator: Any, **kw: Any) -> str:
        return f"bitNot({self.process(unary.element, **kw)})"

    def visit_regexp_match_op_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        return f"match({self.process(binary.left, **kw)}, {self._pattern(binary, binary.right, **kw)})"

    # Upstream's ILIKE forgets the character that escapes.

    def visit_ilike_op_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        return self._ilike("ILIKE", binary, **kw)

    def visit_not_ilike_op_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        return self._ilike("NOT ILIKE", binary, **kw)

    def _ilike(self, word: str, binary: Any, **kw: Any) -> str:
        text = f"{self.process(binary.left, **kw)} {word} {self.process(binary.right, **kw)}"
        escape = binary.modifiers.get("escape")
        return text if escape is None else f"{text} ESCAPE {self._text(escape)}"

    def visit_not_regexp_match_op_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        return f"NOT {self.visit_regexp_match_op_binary(binary, operator, **kw)}"

    def visit_regexp_replace_op_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        pattern, replacement = binary.right.clauses
        text = self._pattern(binary, pattern, **kw)
        return f"replaceRegexpAll({self.process(binary.left, **kw)}, {text}, {self.process(replacement, **kw)})"

    def _pattern(self, binary: Any, pattern: Any, **kw: Any) -> str:
        text = str(self.process(pattern, **kw))
        flags = binary.modifiers.get("flags")
        return text if flags is None else f"concat({self._text(f'(?{flags})')}, {text})"

    @staticmethod
    def _text(value: str) -> str:
        return literal(value).replace("%", "%%")

    # -- JSON: documents in Strings ------------------------------------------------

    def visit_json_getitem_op_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        return self._extract(binary, self.process(binary.right, **kw), **kw)

    def visit_json_path_getitem_op_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        # The functions take the steps of a path one by one; so they are written out.
        path = binary.right
        if not hasattr(path, "render_literal_execute"):
            raise sa_exc.CompileError("a path into a JSON document is a tuple of keys and positions, not an expression")
        return self._extract(binary, self.process(path.render_literal_execute(), **kw), **kw)

    def _extract(self, binary: Any, path: str, **kw: Any) -> str:
        document = self.process(binary.left, **kw)
        if binary.type._type_affinity is sqltypes.JSON:
            return f"nullIf(JSONExtractRaw({document}, {path}), '')"
        name = self.dialect.type_compiler_instance.process(binary.type)
        if name.startswith("Decimal"):
            # ClickHouse reads numbers of a document as Float64: their shortest text is nearer to what was written.
            return f"accurateCastOrNull(JSONExtractRaw({document}, {path}), {self._text(name)})"
        return f"JSONExtract({document}, {path}, {self._text(f'Nullable({name})')})"
