"""SQL of what SQLAlchemy has no words for: ClickHouse's clauses, joins, lambdas, intervals."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import exc as sa_exc
from sqlalchemy.sql import COLLECT_CARTESIAN_PRODUCTS, WARN_LINTING, compiler, elements
from sqlalchemy.sql.base import _de_clone
from sqlalchemy.sql.selectable import CTE, AliasedReturnsRows, Join, TableClause, _from_objects  # type: ignore[attr-defined]

from netra_chdb.dialect.clauses import ArrayElement
from netra_chdb.dialect.joins import JoinMode
from netra_chdb.dialect.select import Select
from netra_chdb.dialect.standard_sql import NO_LOCKS

__all__ = ["ClauseCompiler"]

_NOTHING: Final = Select()


class ClauseCompiler(compiler.SQLCompiler):
    """Compiles the elements that this package adds to SQL."""

    #: Whether each SELECT says its ``standard_settings`` itself: nothing sends them beside a query that is stored.
    writes_settings = False
    standard_settings: Mapping[str, int]

    # -- SELECT, clause by clause --------------------------------------------

    def _compose_select_body(
        self,
        text: str,
        select: Any,
        compile_state: Any,
        inner_columns: Any,
        froms: Any,
        byfrom: Any,
        toplevel: bool,
        kwargs: Any,
    ) -> str:
        asked = select if isinstance(select, Select) else _NOTHING
        if select._for_update_arg is not None:
            raise sa_exc.CompileError(NO_LOCKS)
        text += ", ".join(inner_columns)
        linter = compiler.FromLinter({}, set()) if self.linting & COLLECT_CARTESIAN_PRODUCTS else None
        if linter is not None and toplevel:
            self.from_linter = linter
        hints = self._table_hints(asked, froms, byfrom, **kwargs)
        if froms:
            with_hints = {"fromhints": hints} if hints else {}
            text += " \nFROM " + ", ".join(
                from_._compiler_dispatch(self, asfrom=True, from_linter=linter, **with_hints, **kwargs)
                for from_ in froms
            )
        else:
            text += self.default_from()
        # Statements of upstream's own select() carry theirs under another name.
        text += "".join(
            join._compiler_dispatch(self, **kwargs)
            for join in (*asked._array_joins, getattr(select, "_array_join", None))
            if join is not None
        )
        text += self._conditions("PREWHERE", asked._prewhere, from_linter=linter, **kwargs)
        text += self._conditions("WHERE", select._where_criteria, from_linter=linter, **kwargs)
        if linter is not None and self.linting & WARN_LINTING:
            linter.warn()
        text += self._groups(asked, select, **kwargs)
        text += self._conditions("HAVING", select._having_criteria, **kwargs)
        text += self._conditions("QUALIFY", asked._qualify, **kwargs)
        if select._order_by_clauses:
            text += self.order_by_clause(select, **kwargs)
        if asked._interpolate:
            text += f" INTERPOLATE ({self._list(asked._interpolate, **kwargs)})"
        if asked._limit_by:
            limit, offset, columns = (self.process(clause, **kwargs) for clause in asked._limit_by)
            text += f" \nLIMIT {limit} OFFSET {offset} BY {columns}"
        if select._has_row_limiting_clause:
            text += self._row_limit_clause(select, **kwargs)
        settings = [self._list(asked._settings, **kwargs)] if asked._settings else []
        if self.writes_settings:
            own = {setting.name for setting in asked._settings}
            settings += [f"{name} = {value}" for name, value in self.standard_settings.items() if name not in own]
        if settings:
            text += f" \nSETTINGS {', '.join(settings)}"
        return text

    def _list(self, clauses: Any, **kw: Any) -> str:
        return ", ".join(clause._compiler_dispatch(self, **kw) for clause in clauses)

    def _conditions(self, keyword: str, criteria: Any, **kw: Any) -> str:
        text = self._generate_delimited_and_list(criteria, **kw) if criteria else ""
        return f" \n{keyword} {text}" if text else ""

    def _groups(self, asked: Select, select: Any, **kw: Any) -> str:
        # SQLAlchemy's own: upstream's adds the same words, but drops them where there is no GROUP BY.
        text = compiler.SQLCompiler.group_by_clause(self, select, **kw) if select._group_by_clauses else ""
        for wanted, words in ((asked._with_cube, "WITH CUBE"), (asked._with_rollup, "WITH ROLLUP")):
            if wanted and not text:
                raise sa_exc.CompileError(f"{words} needs a GROUP BY")
            text += f" {words}" if wanted else ""
        return text + (" WITH TOTALS" if asked._with_totals else "")

    # -- FINAL and SAMPLE stand behind each table, before a JOIN --------------

    def _table_hints(self, asked: Select, froms: Any, byfrom: Any, **kw: Any) -> dict[Any, str]:
        hints = dict(byfrom or {})
        if not (asked._final or asked._final_tables or asked._samples):
            return hints
        tables = {table for from_ in froms for table in _from_objects(from_) if _is_stored(table)}
        final = tables if asked._final else set(asked._final_tables)
        samples = {_first(froms) if sample.table is None else sample.table: sample for sample in asked._samples}
        for name, wanted in (("FINAL", final), ("SAMPLE", samples)):
            missing = [table for table in wanted if table not in tables]
            if missing or (name == "FINAL" and asked._final and not tables):
                what = " of " + ", ".join(str(table) for table in missing) if missing else ""
                raise sa_exc.CompileError(f"{name}{what}: FROM holds no such table")
        for table in tables:
            sample = samples[table]._compiler_dispatch(self, **kw) if table in samples else None
            words = ("FINAL" if table in final else None, sample, hints.get(table))
            hints[table] = " ".join(word for word in words if word)
        return {table: hint for table, hint in hints.items() if hint}

    def format_from_hint_text(self, sqltext: Any, table: Any, hint: Any, iscrud: bool) -> Any:
        return f"{sqltext} {hint}"

    def visit_clickhouse_sample(self, sample: Any, **kw: Any) -> str:
        offset = f" OFFSET {self.process(sample.offset, **kw)}" if sample.offset is not None else ""
        return f"SAMPLE {self.process(sample.ratio, **kw)}{offset}"

    def visit_clickhouse_setting(self, setting: Any, **kw: Any) -> str:
        return f"{setting.name} = {self.process(setting.value, **kw)}"

    # -- JOIN and ARRAY JOIN ---------------------------------------------------

    def visit_join(self, join: Any, asfrom: bool = False, from_linter: Any = None, **kw: Any) -> str:
        if from_linter:
            from_linter.edges.update(
                itertools.product(_de_clone(join.left._from_objects), _de_clone(join.right._from_objects))
            )
        mode = join.full
        if not isinstance(mode, JoinMode):
            mode = JoinMode("FULL" if join.full else "LEFT" if join.isouter else "INNER")
        left = join.left._compiler_dispatch(self, asfrom=True, from_linter=from_linter, **kw)
        right = join.right._compiler_dispatch(self, asfrom=True, from_linter=from_linter, **kw)
        text = f"{left} {mode.keyword} {right}"
        if mode.kind == "CROSS":
            return text
        if isinstance(join.onclause, elements.Tuple):
            return f"{text} USING {join.onclause._compiler_dispatch(self, **{**kw, 'include_table': False})}"
        return f"{text} ON {join.onclause._compiler_dispatch(self, from_linter=from_linter, **kw)}"

    def visit_clickhouse_array_join(self, join: Any, **kw: Any) -> str:
        arrays = ", ".join(self._array(array, **kw) for array in join.arrays)
        return f" \n{'LEFT ' if join.left else ''}ARRAY JOIN {arrays}"

    def _array(self, array: Any, **kw: Any) -> str:
        if isinstance(array, ArrayElement):
            return f"{self.process(array.array, **kw)} AS {self.preparer.quote(array.name)}"
        return self.process(array, **{**kw, "within_columns_clause": True, "within_label_clause": False})

    def visit_clickhouse_array_element(self, element: Any, **kw: Any) -> str:
        return self.visit_column(element, **kw)

    # -- ORDER BY ... WITH FILL ------------------------------------------------

    def visit_clickhouse_fill(self, fill: Any, **kw: Any) -> str:
        text = f"{self.process(fill.element, **kw)} WITH FILL"
        for word in ("FROM", "TO", "STEP", "STALENESS"):
            value = getattr(fill, "from_" if word == "FROM" else word.lower())
            if value is not None:
                text += f" {word} {self.process(value, **kw)}"
        return text

    def visit_clickhouse_interpolation(self, interpolation: Any, **kw: Any) -> str:
        text = self.process(interpolation.column, **kw)
        if interpolation.expression is not None:
            text += f" AS {self.process(interpolation.expression, **kw)}"
        return text

    # -- expressions -----------------------------------------------------------

    def visit_clickhouse_interval(self, interval: Any, **kw: Any) -> str:
        value = self.process(interval.value, **kw)
        return (
            f"INTERVAL {value if isinstance(interval.value, elements.BindParameter) else f'({value})'} {interval.unit}"
        )

    def visit_clickhouse_lambda(self, lambda_: Any, **kw: Any) -> str:
        names = [self.preparer.quote(parameter.name) for parameter in lambda_.parameters]
        head = names[0] if len(names) == 1 else f"({', '.join(names)})"
        return f"{head} -> {self.process(lambda_.body, **kw)}"

    def visit_global_in_op_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        return self._generate_generic_binary(binary, " GLOBAL IN ", **kw)

    def visit_global_not_in_op_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        return f"({self._generate_generic_binary(binary, ' GLOBAL NOT IN ', **kw)})"


def _first(froms: Any) -> Any:
    from_ = froms[0] if froms else None
    while isinstance(from_, Join):
        from_ = from_.left
    return from_


def _is_stored(from_: Any) -> bool:
    # A subquery, a CTE or a table function has no parts to merge and no sampling key.
    inner = from_.element if isinstance(from_, AliasedReturnsRows) else from_
    return isinstance(inner, TableClause) and not isinstance(from_, CTE)
