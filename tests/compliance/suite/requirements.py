"""What of SQLAlchemy's suite applies here: everything that ClickHouse can do is open.

What is closed has its reason beside it. Names that stand in neither table are as SQLAlchemy has them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sqlalchemy.testing import exclusions
from sqlalchemy.testing.requirements import SuiteRequirements

_NO_FOREIGN_KEYS: Final = "ClickHouse has no foreign keys; those of a Table serve joins, and are left out of its DDL"
_NO_UNIQUE: Final = "ClickHouse enforces no uniqueness, also not of a primary key"
_NO_KEY_MADE: Final = "ClickHouse makes no keys: an insert without one stores 0"
_NO_TRANSACTION: Final = "a statement stands when it is done: ClickHouse has no transaction that could take it back"
_TIMES: Final = "ClickHouse's dates and times go from 1900 to 2299"
_NO_ZONE_IN_TIME: Final = "ClickHouse's Time has no zone"
_DIRECTION: Final = "a skip index holds facts about blocks of rows: it has no direction"
_NO_IDENTITY: Final = "ClickHouse has no IDENTITY"
_NO_CTE: Final = "ClickHouse has no WITH in front of UPDATE and DELETE, and no UPDATE or DELETE inside of one"

#: What ClickHouse lacks.
CLOSED: Final[dict[str, str]] = {
    "foreign_keys": _NO_FOREIGN_KEYS,
    "self_referential_foreign_keys": _NO_FOREIGN_KEYS,
    "foreign_key_constraint_reflection": _NO_FOREIGN_KEYS,
    "on_update_cascade": _NO_FOREIGN_KEYS,
    "recursive_fk_cascade": _NO_FOREIGN_KEYS,
    "unique_constraint_reflection": _NO_UNIQUE,
    "duplicate_key_raises_integrity_error": _NO_UNIQUE,
    "autoincrement_insert": _NO_KEY_MADE,
    "autoincrement_without_sequence": _NO_KEY_MADE,
    "implements_get_lastrowid": _NO_KEY_MADE,
    "fetch_rows_post_commit": _NO_TRANSACTION,
    "savepoints": _NO_TRANSACTION,
    "two_phase_transactions": _NO_TRANSACTION,
    "skip_autocommit_rollback": "rollback() has work to do in AUTOCOMMIT, too: it ends a stream that was left open",
    "identity_columns": _NO_IDENTITY,
    "identity_columns_standard": _NO_IDENTITY,
    "date_historic": _TIMES,
    "datetime_historic": _TIMES,
    "datetime_timezone_historic": _TIMES,
    "time_timezone": _NO_ZONE_IN_TIME,
    "datetime_interval": "no column of ClickHouse's holds an INTERVAL; Interval keeps a moment in its place",
    "date_coerces_from_datetime": "the dialect refuses a datetime where a date is wanted: its time would be lost",
    "indexes_with_ascdesc": _DIRECTION,
    "reflect_indexes_with_ascdesc": _DIRECTION,
    "indexes_check_column_order": _DIRECTION,
    "index_reflects_included_columns": "a skip index does not store columns",
    "reflects_pk_names": "a primary key of ClickHouse's has no name",
    "implicitly_named_constraints": "a primary key of ClickHouse's has no name",
    "constraint_comment_reflection": "a constraint of ClickHouse's has no comment",
    "column_collation_reflection": "a column of ClickHouse's has no collation; it is ORDER BY that takes one",
    "ctes_with_update_delete": _NO_CTE,
    "ctes_on_dml": _NO_CTE,
    "update_from": "ALTER TABLE ... UPDATE reads no other table but in a subquery",
    "delete_from": "ALTER TABLE ... DELETE reads no other table but in a subquery",
    "nvarchar_types": "ClickHouse's String is Unicode; there is no national type",
    "timestamp_microseconds": "every DateTime has microseconds, TIMESTAMP not alone",
    "async_dialect": "these are the sync dialects; the async ones run the same drivers",
    "sane_multi_rowcount": "ALTER TABLE ... UPDATE does not say how many rows it changed",
}

#: What ClickHouse has and SQLAlchemy supposes that few have.
OPEN: Final = (
    "array_type",
    "autocommit",
    "boolean_col_expressions",
    "check_constraint_reflection",
    "comment_reflection",
    "comment_reflection_full_unicode",
    "computed_columns",
    "computed_columns_default_persisted",
    "computed_columns_reflect_persisted",
    "computed_columns_stored",
    "computed_columns_virtual",
    "ctes",
    "ctes_with_values",
    "datetime_literals",
    "datetime_timezone",
    "default_schema_name_switch",
    "except_",
    "expression_server_defaults",
    "fetch_expression",
    "fetch_first",
    "fetch_no_order_by",
    "fetch_offset_with_options",
    "fetch_percent",
    "fetch_ties",
    "float_or_double_precision_behaves_generically",
    "foreign_key_ddl",
    "has_temp_table",
    "implicit_default_schema",
    "index_ddl_if_exists",
    "indexes_with_expressions",
    "infinity_floats",
    "inline_check_constraint_reflection",
    "intersect",
    "isolation_level",
    "json_type",
    "legacy_unconditional_json_extract",
    "materialized_views",
    "mod_operator_as_percent_sign",
    "nullsordering",
    "order_by_label_with_expression",
    "percent_schema_names",
    "precision_numerics_enotation_small",
    "precision_numerics_many_significant_digits",
    "precision_numerics_retains_significant_digits",
    "reflect_indexes_with_expressions",
    "reflect_table_options",
    "regexp_match",
    "regexp_replace",
    "schema_create_delete",
    "server_defaults",
    "supports_bitwise_and",
    "supports_bitwise_not",
    "supports_bitwise_or",
    "supports_bitwise_shift",
    "supports_bitwise_xor",
    "supports_distinct_on",
    "table_ddl_if_exists",
    "table_value_constructor",
    "temp_table_comment_reflection",
    "temp_table_names",
    "tuple_in",
    "unicode_ddl",
    "uuid_data_type",
    "view_column_reflection",
    "view_reflection",
    "views",
    "window_functions",
)
#: What needs a connection with a session on the server; each request over HTTP has one of its own.
OPEN_IN_A_SESSION: Final = (
    "has_temp_table",
    "temp_table_comment_reflection",
    "temp_table_names",
    "temp_table_reflect_indexes",
    "temp_table_reflection",
    "temporary_tables",
    "temporary_views",
)


def _closed(reason: str) -> property:
    return property(lambda _: exclusions.skip_if(lambda: True, reason))


def _open() -> property:
    return property(lambda _: exclusions.open())


def _open_in_a_session() -> property:
    stateless: Callable[[Any], bool] = lambda config: config.db.dialect.driver == "chhttp"  # noqa: E731
    return property(lambda _: exclusions.skip_if(stateless, "over HTTP each request has a session of its own"))


class Requirements(SuiteRequirements):
    """SQLAlchemy's requirements as ClickHouse meets them."""

    def get_order_by_collation(self, config: Any) -> str:
        return "en"


for _name, _requirement in (
    *((_name, _closed(_reason)) for _name, _reason in CLOSED.items()),
    *((_name, _open()) for _name in OPEN),
    *((_name, _open_in_a_session()) for _name in OPEN_IN_A_SESSION),
):
    assert hasattr(SuiteRequirements, _name), f"SQLAlchemy knows no requirement {_name}"
    setattr(Requirements, _name, _requirement)
