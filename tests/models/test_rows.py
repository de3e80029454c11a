"""Each model there and back through a session: all columns filled, only the required ones, one of those missing."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from netra_chdb import dialect
from netra_chdb.dialect.types import unwrap
from netra_chdb.models import analytics, traces
from netra_chdb.models.base import new_id, now

REQUIRED: dict[Any, str] = {
    analytics.PerformanceMetric: "user_id timestamp metric_type metric_name value",
    analytics.Event: "user_id timestamp event_type event_name",
    analytics.SystemHealthMetric: "service_name timestamp status",
    analytics.ErrorAnalytics: "user_id timestamp error_type error_message",
    traces.AgentExecution: "trace_id execution_id user_id agent_type agent_name status start_time",
    traces.AgentEvent: "trace_id execution_id user_id timestamp event_type event_name sequence_number",
    traces.PerformanceMetric: "trace_id user_id timestamp metric_type metric_name value",
    traces.TraceCorrelation: (
        "parent_trace_id child_trace_id timestamp relationship_type parent_start_time child_start_time"
    ),
    traces.ErrorLog: "trace_id user_id timestamp error_type severity error_message",
}
OPTIONAL = {
    traces.AgentExecution: "end_time error_message error_stack",
    traces.AgentEvent: "tool_name tool_input tool_output duration_ms",
}
OWN_IDS = {
    analytics.PerformanceMetric: "metric_id",
    analytics.Event: "event_id",
    analytics.SystemHealthMetric: "metric_id",
    analytics.ErrorAnalytics: "error_id",
    traces.AgentEvent: "event_id",
    traces.PerformanceMetric: "metric_id",
    traces.TraceCorrelation: "correlation_id",
    traces.ErrorLog: "error_id",
}

DOCUMENT = {"nothing": None, "dotted.key": [1, 2.5, "drei"], "z": {"a": True}, "a": "100% 'quoted' \\ \n", "empty": {}}
models = pytest.mark.parametrize("model", REQUIRED, ids=lambda model: str(model.__table__.fullname))


def attributes(model: Any) -> dict[str, Any]:
    """Each attribute of the model with its column."""
    return {attribute.key: attribute.columns[0] for attribute in sa.inspect(model).column_attrs}


def filled(key: str, column: Any, position: int) -> Any:
    """A value that is not the column's default, and not its neighbour's."""
    type_ = unwrap(column.type)
    if isinstance(column.type, dialect.JSONText):
        return {**DOCUMENT, "column": key}
    if isinstance(type_, dialect.Enum8):
        return list(type_.enums)[-1]
    if isinstance(type_, dialect.DateTime64):
        return now() - dt.timedelta(hours=1, milliseconds=position)
    if isinstance(type_, dialect.Float64):
        return position + 0.1
    if isinstance(type_, dialect.UInt32):
        return 2**32 - 1 - position
    if isinstance(type_, dialect.UInt64):
        return 2**64 - 1 - position
    if isinstance(type_, dialect.Boolean):
        return True
    if isinstance(type_, dialect.UUID):
        return uuid.uuid4()
    if isinstance(type_, dialect.Array):
        return ["rot", "", "grün's", "100%"]
    assert isinstance(type_, dialect.String), column
    return f"{key} {uuid.uuid4().hex} 'grün' \\ 100% \n"


def empty(column: Any) -> Any:
    """What a column without a value holds."""
    type_ = unwrap(column.type)
    for kind, value in (
        (dialect.Float64, 0.0),
        ((dialect.UInt32, dialect.UInt64), 0),
        (dialect.Boolean, False),
        (dialect.Array, []),
    ):
        if isinstance(type_, kind):
            return value
    return {} if isinstance(column.type, dialect.JSONText) else ""


def read_back(engine: sa.Engine, model: Any, identity: Any) -> dict[str, Any]:
    with orm.Session(engine) as session:
        row = session.get_one(model, identity)
        return {key: getattr(row, key) for key in attributes(model)}


def add(engine: sa.Engine, model: Any, values: dict[str, Any]) -> Any:
    """Add one row and return its identity."""
    with orm.Session(engine) as session:
        row = model(**values)
        session.add(row)
        session.commit()
        return sa.inspect(row).identity


@models
def test_every_column_comes_back_as_it_went(schema: sa.Engine, model: Any) -> None:
    values = {key: filled(key, column, position) for position, (key, column) in enumerate(attributes(model).items())}
    assert read_back(schema, model, add(schema, model, values)) == values


@models
def test_the_required_columns_are_enough(schema: sa.Engine, model: Any) -> None:
    columns = attributes(model)
    required = REQUIRED[model].split()
    values = {key: filled(key, columns[key], position) for position, key in enumerate(required)}
    before = now()
    found = read_back(schema, model, add(schema, model, values))
    assert {key: found.pop(key) for key in required} == values
    assert before <= found.pop("created_at") <= now()
    assert isinstance(found.pop("batch_id"), uuid.UUID)
    if model in OWN_IDS:
        assert len(found.pop(OWN_IDS[model])) == len(new_id()) == 32
    if model is analytics.ErrorAnalytics:
        assert found.pop("severity") == "error"
    nullable = OPTIONAL.get(model, "").split()
    assert {key: found.pop(key) for key in nullable} == dict.fromkeys(nullable)
    assert {key for key, column in columns.items() if column.nullable} == set(nullable)
    assert found == {key: empty(columns[key]) for key in found}


@models
def test_a_row_without_a_required_column_is_refused(schema: sa.Engine, model: Any) -> None:
    columns = attributes(model)
    required = REQUIRED[model].split()
    values = {key: filled(key, columns[key], position) for position, key in enumerate(required)}
    table = model.__table__
    with schema.connect() as connection:
        before = connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
    for missing in required:
        row = {key: value for key, value in values.items() if key != missing}
        refused = pytest.raises(sa.exc.SQLAlchemyError, match=f"{table.fullname}.{missing} is required")
        for given in (row, {**row, missing: None}):
            with orm.Session(schema) as session:
                session.add(model(**given))
                with refused:
                    session.commit()
        with refused, orm.Session(schema) as session:
            session.execute(sa.insert(model), [row, row])
        with refused, schema.connect() as connection:
            connection.execute(sa.insert(table), row)
    with schema.connect() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one() == before


@models
def test_core_inserts_get_the_same_defaults(schema: sa.Engine, model: Any) -> None:
    columns = attributes(model)
    required = REQUIRED[model].split()
    # A table's "metadata" is "metadata_" on the model, where the name is taken; no required column is renamed.
    rows = [{key: filled(key, columns[key], row) for key in required} for row in range(3)]
    batch_id = uuid.uuid4()
    with schema.connect() as connection:
        connection.execute(sa.insert(model.__table__), [{**row, "batch_id": batch_id} for row in rows])
        found = connection.execute(
            sa.select(*(columns[key] for key in required)).where(columns["batch_id"] == batch_id)
        ).all()
    assert sorted(map(tuple, found), key=repr) == sorted((tuple(row.values()) for row in rows), key=repr)


def test_a_name_outside_an_enumeration_is_refused(schema: sa.Engine) -> None:
    row = traces.PerformanceMetric(
        trace_id="t", user_id="u", timestamp=now(), metric_type="speed", metric_name="m", value=1.0
    )
    with orm.Session(schema) as session:
        session.add(row)
        with pytest.raises(sa.exc.StatementError, match="speed"):
            session.commit()


def test_objects_of_two_users_with_one_id_are_two_objects(schema: sa.Engine) -> None:
    """Else a session that has loaded one user's row would hand it out as the other's."""
    event_id = new_id()
    for user_id in ("ada", "bob"):
        add(
            schema,
            analytics.Event,
            {"event_id": event_id, "user_id": user_id, "timestamp": now(), "event_type": "ui", "event_name": "click"},
        )
    with orm.Session(schema) as session:
        found = session.scalars(sa.select(analytics.Event).where(analytics.Event.event_id == event_id)).all()
        assert sorted(event.user_id for event in found) == ["ada", "bob"]


def test_a_row_of_one_database_never_shows_in_the_other(schema: sa.Engine) -> None:
    """Both have a table ``performance_metrics``; code that wrote to one and read the other was a real failure."""
    ours: dict[Any, str] = {analytics.PerformanceMetric: new_id(), traces.PerformanceMetric: new_id()}
    for model, metric_id in ours.items():
        values = {"trace_id": "t", "user_id": "u", "timestamp": now(), "metric_type": "llm", "metric_name": "m"}
        add(schema, model, {**values, "metric_id": metric_id, "value": 1.0})
    with orm.Session(schema) as session:
        for model, metric_id in ours.items():
            assert session.scalars(sa.select(model.metric_id).where(model.metric_id.in_(ours.values()))).all() == [
                metric_id
            ]


def test_a_summarys_states_are_not_loaded_with_it(schema: sa.Engine) -> None:
    add(
        schema,
        analytics.PerformanceMetric,
        {"user_id": "state", "timestamp": now(), "metric_type": "t", "metric_name": "m", "value": 2.0},
    )
    model = analytics.UserMetricsSummary
    with orm.Session(schema) as session:
        row = session.scalars(sa.select(model).where(model.user_id == "state")).one()
        assert (row.metric_count, row.max_value, row.day) == (1, 2.0, row.created_on)
        with pytest.raises(sa.exc.InvalidRequestError, match="raiseload"):
            _ = row.avg_value
