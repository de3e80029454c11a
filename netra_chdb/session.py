"""Sessions whose every statement passes the breaker, that see one user's rows, and read on without ClickHouse.

``session.execute(statement, execution_options={"stale_if_error": 300})`` answers a SELECT that ClickHouse cannot
answer from the last good answer to the same question, when that is at most 300 seconds old; :func:`freshness` tells.
The statement may carry the option as well. While the same is being asked already, the read takes part in that answer.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event, orm
from sqlalchemy.ext import asyncio as sa_asyncio

from netra_chdb.answers import OPTION, Answers, Freshness
from netra_chdb.engine import guard
from netra_chdb.errors import NetraError
from netra_chdb.models import analytics, traces
from netra_chdb.resilience.breaker import CircuitBreaker
from netra_chdb.resilience.deadline import checked_age, checked_timeout, within
from netra_chdb.resilience.store import AnswerStore
from netra_chdb.scope import EVERYONE, USER_ID, Scope, scope_of, watch

__all__ = ["EVERYONE", "AsyncSessionFactory", "Freshness", "Session", "SessionFactory", "UserSession", "freshness"]

_BASES: Final = (analytics.Base, traces.Base)
# Views may read them without a statement's naming them.
_TABLES: Final = tuple(table for base in _BASES for table in base.metadata.tables.values() if USER_ID in table.columns)
# What the guard of the connection that is asked wants to know.
_PASSED_ON: Final = ("timeout", "netra_statement")


def freshness(result: Any) -> Freshness | None:
    """Return of when a result is that was read with ``stale_if_error``; None for any other.

    Args:
        result: what ``execute`` or ``scalars`` returned.
    """
    found: Freshness | None = vars(getattr(result, "_real_result", None) or result).get("netra_freshness")
    return found


class Session(orm.Session):
    """A session whose reads may be answered from the store."""

    _answers: Answers | None = None
    _line: sa.Connection | None = None

    def _connection_for_bind(self, *args: Any, **kw: Any) -> Any:
        # A read that may be answered from the store has a connection of its own, so that its failure leaves the
        # session's as it is.
        return self._line if self._line is not None else super()._connection_for_bind(*args, **kw)

    def _read(self, state: orm.ORMExecuteState) -> Any:
        if self._answers is None:
            raise NetraError("stale_if_error needs a store: SessionFactory(engine, store=AnswerStore())")
        if state.is_insert or state.is_update or state.is_delete:
            raise NetraError("stale_if_error is for SELECT, not for what changes rows")
        if self.autoflush:
            self.flush()
        bind = self.get_bind(**state.bind_arguments)
        if not isinstance(bind, sa.Engine):
            raise NetraError("stale_if_error needs a session that is bound to an engine, not to a connection")
        options = {name: state.execution_options[name] for name in _PASSED_ON if name in state.execution_options}
        age = checked_age(state.execution_options[OPTION])
        with self._answers.connect(bind, age, **options) as connection:
            self._line = connection
            try:
                result = state.invoke_statement()
            finally:
                self._line = None
            line: Any = connection.connection.dbapi_connection
            vars(result)["netra_freshness"] = line.freshness
        return result


class UserSession(Session):
    """A session of one user: it reads that user's rows, and writes no other's.

    What could show other rows is refused with an error that names the way out. ``execution_options(unscoped=...)`` of
    a statement asks for it by name: ``"text"`` for SQL as text, or the full name of a table without ``user_id``, of a
    table function or of a function; several as a tuple. Tables with ``user_id`` stay filtered even then, where they
    are read by their names; what a text reads through a table function, such as ``merge()``, is its author's affair.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        bind = self.bind
        scope = scope_of(bind) if isinstance(bind, sa.Engine) else None
        if scope is None:
            raise NetraError("a session for a user is made with for_user()")
        self._scope = scope
        self._engine = bind

    @property
    def user_id(self) -> str:
        """Whose rows it sees."""
        return self._scope.user_id

    def get_bind(self, mapper: Any = None, *, clause: Any = None, bind: Any = None, **kw: Any) -> Any:
        """Return the user's engine; no other is taken.

        Raises:
            NetraError: another bind was asked for.
        """
        if bind is not None and bind is not self._engine:
            raise self._scope.refuse("another bind", "use a session without user_id")
        return self._engine

    def _connection_for_bind(self, engine: Any, *args: Any, **kw: Any) -> Any:
        # session.connection() takes a bind past get_bind().
        return super()._connection_for_bind(self.get_bind(bind=engine), *args, **kw)

    def merge(self, instance: Any, **options: Any) -> Any:
        """Merge an object of this user's.

        Raises:
            NetraError: it, or what it cascades to, is of another user, or of nobody.
        """
        state = sa.inspect(instance)
        self._own(state)
        for _, _, related, _ in state.mapper.cascade_iterator("merge", state):
            self._own(related)
        return super().merge(instance, **options)

    def _own(self, state: Any, *, may_be_missing: bool = False) -> None:
        if USER_ID not in state.mapper.columns:
            name = state.mapper.class_.__name__
            raise self._scope.refuse(f"a {name}", f"it has no {USER_ID}; use a session without one")
        user_id = state.dict.get(state.mapper.get_property_by_column(state.mapper.columns[USER_ID]).key)
        if user_id is None and may_be_missing and state.key is None:
            return
        if user_id != self.user_id:
            what = state.mapper.class_.__name__
            whose = f"{USER_ID} {user_id!r}" if user_id is not None else f"a {USER_ID} that is not loaded"
            raise self._scope.refuse(f"a {what} of {whose}", "use a session for that user, or load it in this one")

    @cached_property
    def _criteria(self) -> dict[Any, Any]:
        mapped = {mapper for base in _BASES for mapper in base.registry.mappers}
        return {mapper: self._criterion(mapper) for mapper in mapped if USER_ID in mapper.columns}

    def _criterion(self, mapper: Any) -> Any:
        attribute = mapper.get_property_by_column(mapper.columns[USER_ID]).class_attribute
        return orm.with_loader_criteria(mapper, attribute == self.user_id, include_aliases=True)

    def _narrowed(self, state: orm.ORMExecuteState) -> Any:
        more = [
            self._criterion(mapper)
            for mapper in state.all_mappers
            if mapper not in self._criteria and USER_ID in mapper.columns
        ]
        return state.statement.options(*self._criteria.values(), *more)


@event.listens_for(Session, "do_orm_execute")
def _on_execute(state: orm.ORMExecuteState) -> Any:
    session: Any = state.session
    loads = state.is_column_load or state.is_relationship_load  # these carry the criteria of what loaded their parent
    if isinstance(session, UserSession) and state.is_select and state.is_orm_statement and not loads:
        state.statement = session._narrowed(state)
    answer = session._read if checked_age(state.execution_options.get(OPTION)) else None
    timeout = checked_timeout(state.execution_options.get("timeout"))
    if timeout is None:
        return answer(state) if answer is not None else None
    # The connection is opened before the statement's own events: who opens it finds the deadline there.
    with within(timeout):
        return answer(state) if answer is not None else state.invoke_statement()


@event.listens_for(UserSession, "before_attach")
def _on_attach(session: UserSession, instance: Any) -> None:
    session._own(sa.inspect(instance), may_be_missing=True)


@event.listens_for(UserSession, "before_flush")
def _on_flush(session: UserSession, context: Any, instances: Any) -> None:
    for instance in session.new:
        mapper = sa.inspect(instance).mapper
        key = mapper.get_property_by_column(mapper.columns[USER_ID]).key
        if getattr(instance, key) is None:
            setattr(instance, key, session.user_id)


def _user_of(engine: sa.Engine) -> str | None:
    scope = scope_of(engine)
    return None if scope is None else scope.user_id


def _refuse_other_binds(options: dict[str, Any]) -> None:
    if found := sorted({"bind", "binds", "class_", "sync_session_class"} & options.keys()):
        raise NetraError(f"for_user() takes no {', '.join(found)}: the session is bound to that user's rows")


class SessionFactory(orm.sessionmaker[orm.Session]):
    """A ``sessionmaker`` over a guarded engine.

    ClickHouse has no transactions: what a flush sends stands, ``rollback()`` only forgets pending objects.

    Args:
        engine: the engine to guard.
        breaker: stands in the engine's execution events; None leaves the engine as it is.
        store: keeps answers for reads with ``stale_if_error``.
        options: passed to :class:`sqlalchemy.orm.sessionmaker`.
    """

    def __init__(
        self,
        engine: sa.Engine,
        *,
        breaker: CircuitBreaker | None = None,
        store: AnswerStore | None = None,
        **options: Any,
    ) -> None:
        if breaker is not None:
            guard(engine, breaker)
        options.setdefault("expire_on_commit", False)
        base = options.pop("class_", orm.Session)
        own = {"_answers": Answers(engine, store, _user_of) if store is not None else None}
        everyone, self._user_class = (
            type(kind.__name__, (kind,) if issubclass(kind, base) else (kind, base), own)
            for kind in (Session, UserSession)
        )
        super().__init__(bind=engine, class_=everyone, **options)
        self.engine = engine
        self.breaker = breaker
        self._watched = watch(engine)

    def for_user(self, user_id: str, **options: Any) -> orm.Session:
        """Return a session that reads one user's rows, and writes no other's; see :class:`UserSession`.

        Args:
            user_id: whose.
            options: of :class:`sqlalchemy.orm.Session`.

        Raises:
            NetraError: ``user_id`` is no user's id.
        """
        _refuse_other_binds(options)
        session: orm.Session = self._user_class(**{**self.kw, **options, "bind": self.engine_for(user_id)})
        return session

    def engine_for(self, user_id: str) -> sa.Engine:
        """Return the engine, with its pool, as one user may use it.

        Raises:
            NetraError: ``user_id`` is no user's id.
        """
        return self._watched.execution_options(netra_scope=Scope(user_id, _TABLES))


class AsyncSessionFactory(sa_asyncio.async_sessionmaker[sa_asyncio.AsyncSession]):
    """An ``async_sessionmaker`` over a guarded async engine; see :class:`SessionFactory`.

    Args:
        engine: the engine to guard.
        breaker: stands in the engine's execution events; None leaves the engine as it is.
        store: keeps answers for reads with ``stale_if_error``.
        options: passed to :class:`sqlalchemy.ext.asyncio.async_sessionmaker`.

    Attributes:
        sync: makes the sessions inside, for what runs in SQLAlchemy's greenlets.
    """

    def __init__(
        self,
        engine: sa_asyncio.AsyncEngine,
        *,
        breaker: CircuitBreaker | None = None,
        store: AnswerStore | None = None,
        **options: Any,
    ) -> None:
        options.setdefault("expire_on_commit", False)
        base = options.pop("sync_session_class", orm.Session)
        self.sync = SessionFactory(engine.sync_engine, breaker=breaker, store=store, class_=base)
        super().__init__(bind=engine, sync_session_class=self.sync.class_, **options)
        self.engine = engine
        self.breaker = breaker

    def for_user(self, user_id: str, **options: Any) -> sa_asyncio.AsyncSession:
        """Return a session that reads one user's rows, and writes no other's; see :class:`UserSession`.

        Args:
            user_id: whose.
            options: of :class:`sqlalchemy.ext.asyncio.AsyncSession`.

        Raises:
            NetraError: ``user_id`` is no user's id.
        """
        _refuse_other_binds(options)
        bound = {"bind": sa_asyncio.AsyncEngine(self.sync.engine_for(user_id))}
        return self.class_(**{**self.kw, **options, **bound, "sync_session_class": self.sync._user_class})
