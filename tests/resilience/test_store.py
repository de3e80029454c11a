"""The store of last good answers: one contract for both places, and what is particular to each."""

from __future__ import annotations

import datetime as dt
import decimal
import ipaddress
import json
import os
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netra_chdb.errors import ConfigError
from netra_chdb.resilience.codec import Unstorable, pack, unpack
from netra_chdb.resilience.store import Answer, AnswerStore, BoundedMemory, key_of
from tests.conftest import started
from tests.redis_server import RedisServer
from tests.servers import free_port

COLUMNS = [("n", "Int64", None, None, None, None, None), ("text", "String", None, None, None, None, None)]


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def answer(store: AnswerStore, *rows: tuple[Any, ...]) -> Answer:
    return Answer(store.now(), COLUMNS, list(rows))


class Contract:
    """What every place keeps to."""

    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    def key(self) -> str:
        return key_of(test=uuid.uuid4().hex)

    def test_an_answer_comes_back(self, store: AnswerStore, clock: Clock, key: str) -> None:
        assert store.get(key, 10) is None
        kept = answer(store, (1, "ü'\\\n"), (2**70, ""))
        payload = store.put(key, kept)
        assert payload is not None
        clock.now += 9.5
        assert store.get(key, 10) == kept
        assert store.read(payload, key) == kept
        assert store.counters() == {"stored": 1, "served": 1, "missing": 1, "unstorable": 0, "failed": 0}

    def test_no_rows_are_an_answer(self, store: AnswerStore, key: str) -> None:
        store.put(key, answer(store))
        found = store.get(key, 1)
        assert found is not None
        assert (list(found.columns), list(found.rows)) == (COLUMNS, [])

    def test_its_age_is_limited(self, store: AnswerStore, clock: Clock, key: str) -> None:
        store.put(key, answer(store, (1, "")))
        clock.now += 10
        assert store.get(key, 10) is not None
        clock.now += 0.001
        assert store.get(key, 10) is None
        assert store.get(key, 11) is not None

    def test_one_from_the_future_is_not_served(self, store: AnswerStore, clock: Clock, key: str) -> None:
        store.put(key, answer(store, (1, "")))
        clock.now -= 1
        assert store.get(key, 1e9) is None

    def test_the_last_one_counts(self, store: AnswerStore, clock: Clock, key: str) -> None:
        store.put(key, answer(store, (1, "")))
        clock.now += 1
        store.put(key, answer(store, (2, "")))
        found = store.get(key, 0.5)
        assert found is not None
        assert list(found.rows) == [(2, "")]

    def test_one_that_cannot_be_kept_takes_the_older_away(self, store: AnswerStore, key: str) -> None:
        for rows in ([(object(), "")], [(1, "x" * 2**20)]):
            store.put(key, answer(store, (1, "")))
            assert store.put(key, answer(store, *rows)) is None
            assert store.get(key, 10) is None
        assert store.counters()["unstorable"] == 2

    @pytest.mark.parametrize(
        "payload", [b"", b"\x80\x04N.", b"[]", b"null", b'[{},[],[["?",[1]]]]', b'[{"key":1},[],[]]']
    )
    def test_bytes_that_are_no_answer_are_none(self, store: AnswerStore, key: str, payload: bytes) -> None:
        store._region.set(key, payload)
        assert store.get(key, 10) is None
        assert store.counters()["failed"] == 1

    def test_the_answer_to_another_question_is_none(self, store: AnswerStore, key: str) -> None:
        payload = store.put(key, answer(store, (1, "")))
        store._region.set(f"{key}x", payload)
        assert store.get(f"{key}x", 10) is None


class TestInTheProcess(Contract):
    @pytest.fixture
    def store(self, clock: Clock) -> AnswerStore:
        return AnswerStore(clock=clock, max_bytes=8 * 2**20)

    def test_it_waits_for_nothing(self, store: AnswerStore, key: str) -> None:
        assert not store.remote
        assert store.available
        assert store.size == 0
        payload = store.put(key, answer(store, (1, "")))
        assert payload is not None
        assert store.size is not None
        assert store.size > len(payload)

    def test_what_was_not_used_for_longest_goes_first(self) -> None:
        memory = BoundedMemory({"max_bytes": 3 * 1304})
        for name in "abc":
            memory.set_serialized(f"key{name}", b"x" * 1000)
        memory.get_serialized("keya")
        memory.set_serialized("keyd", b"x" * 1000)
        assert list(memory._entries) == ["keyc", "keya", "keyd"]
        memory.set_serialized("keye", b"x" * 10_000)
        assert list(memory._entries) == []

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3000), st.booleans()), max_size=60))
    def test_its_memory_is_bounded(self, steps: list[tuple[int, int, bool]]) -> None:
        memory = BoundedMemory({"max_bytes": 10_000})
        model: dict[str, bytes] = {}
        for name, size, reads in steps:
            key = f"key{name}"
            if reads:
                found = memory.get_serialized(key)
                assert found == model.get(key, found)
                if isinstance(found, bytes):
                    model[key] = model.pop(key)
            else:
                memory.set_serialized(key, b"x" * size)
                model.pop(key, None)
                model[key] = b"x" * size
            while sum(len(key) + len(value) + 300 for key, value in model.items()) > 10_000:
                del model[next(iter(model))]
            assert dict(memory._entries) == model
            assert memory.bytes == sum(len(key) + len(value) + 300 for key, value in model.items()) <= 10_000
        for key in [*model, "unknown"]:
            memory.delete(key)
        assert memory.bytes == 0


class TestInRedis(Contract):
    @pytest.fixture
    def store(self, clock: Clock, redis_server: RedisServer) -> Iterator[AnswerStore]:
        store = AnswerStore(redis_server.url, clock=clock, max_bytes=8 * 2**20, redis_timeout=10)
        yield store
        store.close()

    def test_processes_share_it(self, store: AnswerStore, clock: Clock, redis_server: RedisServer, key: str) -> None:
        assert store.remote
        assert store.size is None  # they are in another process
        kept = answer(store, (1, "shared"))
        store.put(key, kept)
        other = AnswerStore(redis_server.url, clock=clock, redis_timeout=10)
        assert other.get(key, 1) == kept
        other.close()
        assert other.get(key, 1) == kept
        other.close()

    def test_nothing_in_it_is_pickled_and_it_expires(
        self, store: AnswerStore, redis_server: RedisServer, key: str
    ) -> None:
        import redis

        store.put(key, answer(store, (1, "plain")))
        with redis.Redis.from_url(redis_server.url) as client:
            raw = client.get(key)
            assert isinstance(raw, bytes)
            _, _, payload = raw.partition(b"|")
            assert json.loads(payload)[2] == [["", [1]], ["", ["plain"]]]
            ttl: Any = client.ttl(key)
            assert 86_000 < ttl <= 86_400


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    yield from started(RedisServer())


class TestRedisAway:
    def test_it_is_carried_on_without(self) -> None:
        store = AnswerStore(f"redis://:s3cret@127.0.0.1:{free_port()}/0", redis_pause=60)
        key = key_of(a=1)
        states = [store.available]
        assert store.put(key, answer(store, (1, ""))) is not None
        states.append(store.available)
        assert states == [True, False]
        assert store.get(key, 10) is None
        counted = store.counters()
        # Asked once, then left alone.
        assert (counted["failed"], counted["stored"], counted["missing"]) == (1, 0, 1)

    def test_it_is_asked_again_when_it_is_back(self, own_redis: RedisServer) -> None:
        store = AnswerStore(own_redis.url, redis_pause=0, redis_timeout=10)
        own_redis.stop()
        store.put("netra_chdb:k", answer(store, (1, "")))
        assert store.counters()["failed"] == 1
        own_redis.start()
        kept = answer(store, (2, ""))
        store.put("netra_chdb:k", kept)
        assert store.get("netra_chdb:k", 10) is not None
        store.close()

    def test_one_that_hangs_costs_its_time_out_once(self, own_redis: RedisServer) -> None:
        store = AnswerStore(own_redis.url, redis_timeout=0.1, redis_pause=60)
        store.put("netra_chdb:k", answer(store, (1, "")))
        os.kill(own_redis.pid, signal.SIGSTOP)
        started_at = dt.datetime.now()
        for _ in range(50):
            assert store.get("netra_chdb:k", 10) is None
        # Fifty time-outs would be five seconds, and redis-py's own retries many more.
        assert dt.datetime.now() - started_at < dt.timedelta(seconds=3)
        assert store.counters()["failed"] == 1
        store.close()

    def test_its_password_is_in_no_log(self, caplog: pytest.LogCaptureFixture) -> None:
        store = AnswerStore(f"redis://:s3cret@127.0.0.1:{free_port()}/0")
        store.get("netra_chdb:k", 10)
        assert "answers in Redis" in caplog.text
        assert "s3cret" not in caplog.text

    def test_a_url_that_is_none(self) -> None:
        with pytest.raises(ConfigError, match="REDIS_URL") as caught:
            AnswerStore("http://:s3cret@host/0")
        assert "s3cret" not in str(caught.value)
        assert caught.value.__cause__ is None

    def test_without_the_package(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import sys

        monkeypatch.setitem(sys.modules, "redis.backoff", None)
        with pytest.raises(ConfigError, match=r"netra-chdb\[redis\]"):
            AnswerStore("redis://127.0.0.1/0")


def test_keys_tell_questions_apart() -> None:
    questions: list[dict[str, Any]] = [
        {"scope": ["everyone"], "sql": "SELECT 1"},
        {"scope": ["user", "everyone"], "sql": "SELECT 1"},
        {"scope": ["user", "u1"], "sql": "SELECT 1"},
        {"scope": ["user", "u1"], "sql": "SELECT '1'"},
        {"scope": ["user", "u1"], "sql": "SELECT 1", "settings": {"a": 1}},
        {"scope": ["user", "u1"], "sql": "SELECT 1", "settings": {"a": "1"}},
        {"scope": ["user", 'u1"], "sql": "'], "sql": "SELECT 1"},
    ]
    assert len({key_of(**question) for question in questions}) == len(questions)
    assert key_of(a=1, b={"x": 1, "y": 2}) == key_of(b={"y": 2, "x": 1}, a=1)


def test_many_threads_at_once() -> None:
    store = AnswerStore(max_bytes=50_000)
    wrong: list[Any] = []

    def work(name: int) -> None:
        for n in range(300):
            key = f"key {(name + n) % 7}"
            found = store.get(key, 100)
            if found is not None and found.rows[0][1] != key:
                wrong.append(found)
            store.put(key, answer(store, (n, key)))

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert store.counters()["failed"] == 0


def unfolded(value: Any) -> Any:
    return value.replace(fold=0)


scalars: list[st.SearchStrategy[Any]] = [
    st.none(),
    st.booleans(),
    st.integers(-(2**255), 2**256),
    st.floats(allow_nan=False),
    st.text(st.characters()),
    st.binary(),
    st.decimals(allow_nan=False, places=5),
    st.dates(),
    st.datetimes().map(unfolded),
    st.datetimes(timezones=st.just(dt.UTC)).map(unfolded),
    st.times().map(unfolded),
    st.timedeltas(),
    st.uuids(),
    st.ip_addresses(v=4),
    st.ip_addresses(v=6),
]
hashable = st.one_of(scalars)
values = st.recursive(
    hashable,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(hashable, inner, max_size=3)
    ),
    max_leaves=6,
)


def exactly(value: Any) -> Any:
    """Equality that tells 1 from True and 1.0, and -0.0 from 0.0, at any depth."""
    if isinstance(value, list | tuple):
        return type(value), [exactly(item) for item in value]
    if isinstance(value, dict):
        return dict, [(exactly(key), exactly(item)) for key, item in value.items()]
    return type(value), repr(value)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 3).flatmap(lambda width: st.lists(st.tuples(*[values] * width), max_size=4)))
def test_rows_come_back_as_they_were(rows: list[tuple[Any, ...]]) -> None:
    if rows and not rows[0]:
        return  # a result without columns has no rows
    header, columns, found = unpack(pack({"a": 1}, COLUMNS, rows))
    assert (header, columns) == ({"a": 1}, COLUMNS)
    assert exactly(found) == exactly(rows)


@pytest.mark.parametrize(
    "column",
    [
        [decimal.Decimal("1.50"), None, decimal.Decimal("-0.00")],
        [float("inf"), -0.0, 1e300],
        [None, None],
        [ipaddress.ip_address("::1"), ipaddress.ip_address("127.0.0.1")],
        [1, True, 1.0, "1", b"1"],
        [{"a": [1, (2, None)]}, {}],
    ],
)
def test_columns_of_every_kind(column: list[Any]) -> None:
    assert exactly(unpack(pack({}, COLUMNS, [(value,) for value in column]))[2]) == exactly([(v,) for v in column])


@pytest.mark.parametrize(
    "make", [object, set, lambda: 1j, lambda: [{1}], lambda: dt.datetime.now(dt.timezone(dt.timedelta(hours=1)))]
)
def test_what_has_no_form_in_bytes_is_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(Unstorable):
        pack({}, COLUMNS, [(make(),)])
