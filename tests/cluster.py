"""A real cluster for tests: 2 shards with 2 replicas each of ClickHouse 18.16, with ZooKeeper, on 127.0.0.1.

Each of the five processes is a child of the test process, and ends with it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Self

from tests.debian import unpacked
from tests.servers import Missing, ModernServer, OldServer, free_port

__all__ = ["CLUSTER", "Cluster", "ModernCluster", "ModernNode", "Node", "ZooKeeper"]

#: The cluster's name; it needs quotes in SQL.
CLUSTER: Final = "test-cluster"

_NODE: Final = """<yandex>
<interserver_http_host>127.0.0.1</interserver_http_host><interserver_http_port>{interserver}</interserver_http_port>
<zookeeper><node><host>127.0.0.1</host><port>{zookeeper}</port></node>
<session_timeout_ms>8000</session_timeout_ms></zookeeper>
<macros><shard>{shard}</shard><replica>{replica}</replica></macros>
<distributed_ddl><path>/clickhouse/task_queue/ddl</path></distributed_ddl>
<remote_servers><{cluster}>{shards}</{cluster}></remote_servers>
</yandex>"""
_SHARD: Final = "<shard><internal_replication>true</internal_replication>{replicas}</shard>"
_REPLICA: Final = "<replica><host>127.0.0.1</host><port>{port}</port></replica>"
_ENDED: Final = re.compile(r"^\. Terminating\.", re.MULTILINE)
# The driver cannot send this one to a server this old.
_PROFILE: Final = """<yandex><profiles><default>
<distributed_ddl_task_timeout>{seconds}</distributed_ddl_task_timeout>
</default></profiles></yandex>"""


class ZooKeeper:
    """ZooKeeper in a child process; its port and data survive a restart."""

    _JARS: Final = (
        *("zookeeper", "zookeeper-jute", "slf4j-api", "snappy-java", "metrics-core-3.2.6", "commons-io"),
        *("commons-cli", "commons-lang", "commons-lang3", "jackson-core", "jackson-databind", "jackson-annotations"),
        *("netty-all", "netty-handler", "netty-transport", "netty-common", "netty-buffer", "audience-annotations"),
    )

    def __init__(self, base: Path) -> None:
        self.base = base.resolve()
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def _java(self) -> tuple[list[str], dict[str, str]]:
        root, environment = unpacked("zookeeper", "default-jre-headless")
        java = shutil.which("java") or next(map(str, root.glob("usr/lib/jvm/*/bin/java")), None)
        if java is None:
            raise Missing("zookeeper", "there is no java, neither here nor beside Debian's zookeeper")
        folders = (root / "usr/share/java", Path("/usr/share/java"))
        found = [str(jar) for folder in folders for name in self._JARS if (jar := folder / f"{name}.jar").exists()]
        return [java, "-Xmx128m", "-cp", ":".join(found)], environment

    def start(self) -> Self:
        """Start it, and wait until it answers."""
        assert self._process is None, "it runs already"
        java, environment = self._java()
        self.base.mkdir(parents=True, exist_ok=True)
        configuration = self.base / "zoo.cfg"
        configuration.write_text(
            f"tickTime=1000\ndataDir={self.base / 'data'}\nclientPort={self.port}\nclientPortAddress=127.0.0.1\n"
            "admin.enableServer=false\n4lw.commands.whitelist=srvr\nmaxClientCnxns=0\n"
        )
        command = [*java, "org.apache.zookeeper.server.quorum.QuorumPeerMain", str(configuration)]
        launch = f"import os, sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import servers"
        launch += f"; servers.die_with_parent(); os.execv({command[0]!r}, {command!r})"
        with (self.base / "output.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", launch],
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 60
        while not self._answers():
            tail = (self.base / "output.log").read_text(errors="replace")[-2000:]
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"ZooKeeper did not get ready: {tail}")
            time.sleep(0.05)
        return self

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                # It answers "ruok" before it serves; 18.16 dies of a ZooKeeper that takes no sessions yet.
                connection.sendall(b"srvr")
                return b"Mode:" in connection.recv(4096)
        except OSError:
            return False

    def stop(self) -> None:
        """End it; a second call does nothing."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()


class Node(OldServer):
    """One replica of one shard."""

    def __init__(self, base: Path, shard: int, replica: int) -> None:
        super().__init__(base)
        self.shard, self.replica = shard, replica
        self.interserver_port = free_port()

    @property
    def name(self) -> str:
        """What ``system.clusters`` calls it."""
        return f"127.0.0.1:{self.tcp_port}"


class ModernNode(ModernServer):
    """One shard, of the engine inside the chdb wheel."""

    def __init__(self, base: Path, shard: int) -> None:
        super().__init__(base)
        self.shard, self.replica = shard, 1
        self.more = ""

    def _command(self) -> tuple[list[str], dict[str, str]]:
        command = super()._command()
        path = self.base / "home" / ".clickhouse-local" / "config.xml"
        path.write_text(path.read_text().replace("</clickhouse>", f"{self.more}</clickhouse>"))
        return command


class ModernCluster:
    """Two shards of the engine inside the chdb wheel, which neither replicates nor runs anything ON CLUSTER.

    So statements are run on each shard, with the engine that is not replicated.

    Args:
        base: a directory for both.
    """

    _REPLICATED: Final = re.compile(r"Replicated(\w*MergeTree)\('[^']*', '[^']*'(?:, )?")
    _WINDOW: Final = re.compile(
        r"\breplicated_deduplication_window( = \d+), replicated_deduplication_window_seconds = \d+"
    )

    def __init__(self, base: Path) -> None:
        self.nodes = [ModernNode(base / f"s{shard}", shard) for shard in (1, 2)]

    def start(self) -> Self:
        """Start both, and wait until each answers."""
        try:
            for node in self.nodes:
                node.more = f"<remote_servers><{CLUSTER}>{_shards(self.nodes)}</{CLUSTER}></remote_servers>"
                node.start()
        except BaseException:
            self.stop()
            raise
        return self

    def execute(self, statement: str) -> None:
        """Run a statement ON CLUSTER as the queue would, on each node; others on the first one."""
        alone = statement.replace(f" ON CLUSTER `{CLUSTER}`", "")
        alone = self._REPLICATED.sub(r"\1(", alone)
        alone = self._WINDOW.sub(r"non_replicated_deduplication_window\1", alone)
        for node in self.nodes if "ON CLUSTER" in statement else self.nodes[:1]:
            node.query(alone)

    def stop(self) -> None:
        """End both."""
        for node in self.nodes:
            node.stop()


class Cluster:
    """Four nodes and their ZooKeeper.

    Args:
        base: a directory for all of them.
        ddl_timeout: seconds that a statement ON CLUSTER waits for all hosts.
    """

    def __init__(self, base: Path, *, ddl_timeout: int = 12) -> None:
        self.zookeeper = ZooKeeper(base / "zookeeper")
        self.nodes = [Node(base / f"s{shard}r{replica}", shard, replica) for shard in (1, 2) for replica in (1, 2)]
        self._ddl_timeout = ddl_timeout

    def start(self) -> Self:
        """Start all, and wait until each answers."""
        try:
            self.zookeeper.start()
            for node in self.nodes:
                self._configure(node)
                node.start()
        except BaseException:
            self.stop()
            raise
        return self

    def _configure(self, node: Node) -> None:
        text = _NODE.format(
            interserver=node.interserver_port,
            zookeeper=self.zookeeper.port,
            shard=node.shard,
            replica=node.replica,
            cluster=CLUSTER,
            shards=_shards(self.nodes),
        )
        for name, content in (
            ("config.d/cluster.xml", text),
            ("users.d/cluster.xml", _PROFILE.format(seconds=self._ddl_timeout)),
        ):
            path = node.base / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    @contextlib.contextmanager
    def mended(self) -> Iterator[None]:
        """Restart nodes whose queue has stopped, as an operator would.

        Two replicas of 18.16 that come to alter a table at the same moment end the thread of one that reads the queue.
        """
        done = threading.Event()
        ended = dict.fromkeys(self.nodes, 0)

        def mend() -> None:
            while not done.wait(0.5):
                for node in self.nodes:
                    count = len(_ENDED.findall((node.base / "server.log").read_text(errors="replace")))
                    if count > ended[node] and node._process is not None:
                        ended[node] = count
                        node.restart()

        thread = threading.Thread(target=mend)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def stop(self) -> None:
        """End all of them."""
        for node in self.nodes:
            node.stop()
        self.zookeeper.stop()


def _shards(nodes: Sequence[Node] | Sequence[ModernNode]) -> str:
    shards = ""
    for shard in (1, 2):
        replicas = (_REPLICA.format(port=one.tcp_port) for one in nodes if one.shard == shard)
        shards += _SHARD.format(replicas="".join(replicas))
    return shards
