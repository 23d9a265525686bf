"""The metadata store on real MySQL, MariaDB and PostgreSQL servers, with TLS and without."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_metadata
import pytest
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2 as mlmd_pb2

from kubeflow import metadata, tasks
from pipeline import settings
from tests.support.forked import Forked
from tests.support.kfp.metadata import environment, opens, refusal
from tests.support.kfp.tasks import NODES, Cluster, ended
from tests.support.runs import SMALL, only_with_all, skips_without
from tests.support.servers.certificates import Authority
from tests.support.servers.mariadb import MariaDB
from tests.support.servers.mysql import MySQL
from tests.support.servers.postgres import PostgreSQL

pytestmark = pytest.mark.usefixtures("smoke_test_in_process")


@pytest.fixture(scope="module")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgreSQL]:
    with skips_without("METADATA ON POSTGRESQL"):
        server = PostgreSQL(tmp_path_factory.mktemp("postgresql"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDB]:
    with skips_without("METADATA ON MARIADB"):
        server = MariaDB(tmp_path_factory.mktemp("mariadb"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def mysql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MySQL]:
    only_with_all("METADATA ON MYSQL'S OWN SERVER")
    with skips_without("METADATA ON MYSQL'S OWN SERVER"):
        server = MySQL(tmp_path_factory.mktemp("mysql"))
    yield server
    server.stop()


@pytest.mark.slow
def test_two_runs_on_postgresql_and_two_first_nodes_at_once(
    postgresql: PostgreSQL, small_data: Path, tmp_path: Path
) -> None:
    login = environment(Path(), **postgresql.login)
    cluster = Cluster(small_data, tmp_path / "output", "postgresql", **login)
    # Both begin on an empty database, and both want to make its tables.
    pair = [cluster.start(["run", node], "run-1") for node in NODES[:2]]
    assert [ended(process)[0] for process in pair] == [0, 0]
    assert all(postgresql.login["password"] not in process.output() for process in pair)
    assert set(cluster.prepare("run-1", *NODES[2:])) == {"executed", "done"}
    code, last, _ = cluster.report("run-1", tmp_path / "kfp")
    assert code == 0
    assert last.endswith(": status pushed.")
    first = cluster.outcome
    # The same in another run is answered from the cache, and releases nothing.
    assert set(cluster.prepare("run-2", *NODES)) == {"cached", "done"}
    cluster.report("run-2", tmp_path / "kfp")
    assert cluster.outcome["pushed_version"] == first["pushed_version"]
    assert cluster.outcome["new_version"] is False
    assert {each["state"] for each in cluster.outcome["components"]} == {"cached"}
    # So the plan has nothing to run, and says what there is to do where something changed.
    assert cluster.plan("run-3")[2] == "nothing"
    assert cluster.plan("run-4", "gate.boundary_iou=0.01")[2] == "release"
    assert postgresql.sql("SELECT count(*) > 20 FROM execution", "metadata") == "t"
    # Of two runs that do the same new work at once the second waits, and takes what it found.
    pair = [cluster.start(["run", "ExampleGen"], run, "data.eval_share=0.2") for run in ("a", "b")]
    assert sorted(ended(each)[1].split()[1] for each in pair) == ["cached", "executed"]


@pytest.mark.slow
def test_concurrent_nodes_on_mariadb(mariadb: MariaDB, small_data: Path, tmp_path: Path) -> None:
    cluster = Cluster(
        small_data, tmp_path / "output", "mysql", **environment(Path(), **mariadb.login)
    )
    pair = [cluster.start(["run", node], "run-1") for node in NODES[:2]]
    assert [ended(process)[0] for process in pair] == [0, 0]
    assert all(mariadb.login["password"] not in process.output() for process in pair)
    assert cluster.prepare("run-1", "StatisticsGen") == ["executed"]
    artifacts = cluster.artifacts("run-1")
    states = {node: artifacts.state(node) for node in NODES if artifacts.began(node)}
    assert states == dict.fromkeys(NODES[:3], "executed")
    # Two runs of the same work at the same time: each is answered from the cache.
    pair = [cluster.start(["run", "ExampleGen"], run) for run in ("run-2", "run-3")]
    assert [ended(process)[1][:18] for process in pair] == ["ExampleGen: cached"] * 2


@pytest.mark.slow
def test_a_wrong_password_is_exit_code_2(
    mariadb: MariaDB, small_data: Path, tmp_path: Path
) -> None:
    login = environment(Path(), **{**mariadb.login, "password": "wrong-password"})
    cluster = Cluster(small_data, tmp_path / "output", "mysql", **login)
    code, last = cluster.run("ExampleGen", "run-1")
    assert code == 2
    assert "rejects the login of the user 'segmentation' (Access denied" in last
    assert "check the Secret that metadata.secret names" in last
    assert "wrong-password" not in last


LONG = 'a "quoted" \\ text\n' + "".join(chr(33 + i % 90) for i in range(20_000))


@pytest.mark.slow
def test_texts_come_back_from_postgresql_as_they_were(
    postgresql: PostgreSQL, tmp_path: Path
) -> None:
    """Long ones, and backslashes: of neither ml-metadata itself is capable."""
    login = environment(Path(), **postgresql.login)
    config = metadata.open_store("postgresql", tmp_path, environment=login)
    texts = [LONG, "\\", "C:\\new", "it's", "\\'; DROP TABLE execution; --", "é\\u00e9"]
    store = ml_metadata.MetadataStore(config)
    kind = store.put_execution_type(mlmd_pb2.ExecutionType(name="a type"))
    execution = mlmd_pb2.Execution(type_id=kind)
    for number, text in enumerate(texts):
        execution.custom_properties[f"text {number}"].string_value = text
    (made,) = store.put_executions([execution])
    (found,) = ml_metadata.MetadataStore(config).get_executions_by_id([made])
    came_back = found.custom_properties
    assert [came_back[f"text {i}"].string_value for i in range(len(texts))] == texts
    assert execution.custom_properties["text 1"].string_value == "\\"


@pytest.mark.slow
def test_postgresql_answers_in_the_order_of_ids(postgresql: PostgreSQL, tmp_path: Path) -> None:
    login = environment(Path(), **postgresql.login)
    config = metadata.open_store("postgresql", tmp_path, environment=login)

    def ids(store: Any) -> list[int]:
        return [artifact.id for artifact in store.get_artifacts_by_id(made)]

    store = ml_metadata.MetadataStore(config)
    kind = store.put_artifact_type(mlmd_pb2.ArtifactType(name="a type"))
    artifacts = [mlmd_pb2.Artifact(type_id=kind, uri=str(i)) for i in range(5)]
    made = store.put_artifacts(artifacts)
    first = mlmd_pb2.Artifact(id=made[0], type_id=kind, uri="changed")
    store.put_artifacts([first])
    assert ids(store) == made
    # Fails when ml-metadata orders them itself.
    assert ids(metadata_store.MetadataStore(config)) != made


@pytest.mark.slow
def test_ml_metadata_itself_still_loses_backslashes(postgresql: PostgreSQL, tmp_path: Path) -> None:
    """Fails when ml-metadata is mended: then compat/ml_metadata_postgresql.py can shrink."""
    login = environment(Path(), **postgresql.login)
    config = metadata.open_store("postgresql", tmp_path, environment=login)
    store = metadata_store.MetadataStore(config)
    kind = store.put_execution_type(mlmd_pb2.ExecutionType(name="another type"))
    execution = mlmd_pb2.Execution(type_id=kind)
    execution.custom_properties["text"].string_value = "\\"
    with pytest.raises(ml_metadata.errors.InternalError, match="syntax error"):
        store.put_executions([execution])


def lose(server: PostgreSQL) -> None:
    """A new, empty database in place of the one that was used."""
    server.sql("DROP DATABASE metadata WITH (FORCE)")
    server.sql("CREATE DATABASE metadata OWNER segmentation")


def plan(cluster: Cluster, run: str) -> Forked:
    """Starts the task that a run begins with."""
    start = cluster.output_root.with_name(f"start-{run}")
    return cluster.start(["plan", "--start", str(start)], run)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_lost_store_does_not_meet_the_folders_of_its_work(
    kind: str, request: pytest.FixtureRequest, small_data: Path, tmp_path: Path
) -> None:
    login: dict[str, str] = {}
    if kind == "postgresql":
        server: PostgreSQL = request.getfixturevalue("postgresql")
        lose(server)
        login = environment(Path(), **server.login)
    cluster = Cluster(small_data, tmp_path / "output", kind, **login)
    assert cluster.plan("run-1")[2] == "data"
    assert cluster.run("ExampleGen", "run-1")[1].startswith("ExampleGen: executed")
    (first,) = (cluster.output_root / "artifacts/ExampleGen/examples").iterdir()
    # A store that knows of work moves nothing.
    code, log = plan(cluster, "run-2").wait()
    assert (code, "Note:" in log) == (0, False)

    cluster.__dict__.pop("connection", None)
    if kind == "postgresql":
        lose(server)
    else:
        (cluster.output_root / "metadata.sqlite").unlink()
    # Two runs begin at once on the new store.
    logs = [process.wait() for process in [plan(cluster, run) for run in ("run-3", "run-4")]]
    assert [code for code, _ in logs] == [0, 0]
    aside = cluster.output_root / "artifacts-1"
    note = f"Note: the metadata store is new; the artifacts of earlier runs are now in {aside}."
    assert sorted(note in log for _, log in logs) == [False, True]
    assert (aside / "ExampleGen" / "examples" / first.name / "Split-train").is_dir()
    assert not (cluster.output_root / "artifacts-2").exists()
    pair = [cluster.start(["run", "ExampleGen"], run) for run in ("run-3", "run-4")]
    assert sorted(ended(each)[1].split()[1] for each in pair) == ["cached", "executed"]
    artifact = cluster.artifacts("run-3").get("ExampleGen", "examples")
    assert artifact is not None
    assert Path(artifact.uri, "Split-train").is_dir()


@pytest.mark.slow
def test_of_two_simultaneous_first_tasks_one_moves_the_folder(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second looks while the first one moves, and would take what that makes next."""
    output = tmp_path / "output"
    (output / "artifacts" / "ExampleGen").mkdir(parents=True)
    connection = metadata.open_store("sqlite", output)
    run = tasks.Run("run", settings.load([], SMALL), small_data, output, connection)
    rename = Path.rename
    began, moved = threading.Event(), []

    def slow(source: Path, target: Path) -> Path:
        began.set()
        time.sleep(0.5)
        done = rename(source, target)
        # What the first one does next: its work is on record, and then has a folder.
        store = ml_metadata.MetadataStore(connection)
        kind = store.put_execution_type(mlmd_pb2.ExecutionType(name="ExampleGen"))
        store.put_executions([mlmd_pb2.Execution(type_id=kind)])
        (output / "artifacts" / "ExampleGen").mkdir(parents=True)
        return done

    monkeypatch.setattr(Path, "rename", slow)
    first = threading.Thread(target=lambda: moved.append(tasks.move_orphaned_artifacts(run)))
    first.start()
    began.wait()
    assert tasks.move_orphaned_artifacts(run) is None
    first.join()
    assert moved == [output / "artifacts-1"]


@pytest.mark.slow
def test_what_postgresql_refuses_is_one_sentence(postgresql: PostgreSQL, tmp_path: Path) -> None:
    login = postgresql.login
    lose(postgresql)

    def said(tls: str = "off", **changes: str) -> str:
        return refusal("postgresql", tls, tmp_path, **{**login, **changes})

    assert "rejects the login of the user 'segmentation' (password auth" in said(password="wrong")
    assert "has no database 'nope' that the user 'segmentation' may use" in said(database="nope")
    assert "does not offer TLS, which metadata.tls=require requires" in said("require")
    secret = "without TLS (no pg_hba.conf entry"
    assert secret in said(user="secure")
    postgresql.sql("GRANT CONNECT ON DATABASE metadata TO stranger")
    rights = said(user="stranger")
    assert "the user 'stranger' create or use tables in the database 'metadata'" in rights
    assert "run GRANT ALL ON SCHEMA public TO stranger as its owner" in rights


@pytest.mark.slow
def test_postgresql_with_tls(postgresql: PostgreSQL, small_data: Path, tmp_path: Path) -> None:
    postgresql.with_tls()
    login, trusted = postgresql.login, postgresql.certificates
    postgresql.sql("GRANT segmentation TO secure, shown")
    for tls in ("require", "verify-ca"):
        opens("postgresql", tls, trusted, **login)
    # The certificate is localhost's.
    assert "has a certificate for another host (" in refusal(
        "postgresql", "verify-full", trusted, **login
    )
    named = {**login, "host": "localhost"}
    opens("postgresql", "verify-full", trusted, **{**named, "user": "secure"})
    # This user's connections must show a certificate.
    opens("postgresql", "verify-full", trusted, **{**named, "user": "shown"})
    only_ca = tmp_path / "only-ca"
    only_ca.mkdir()
    shutil.copy(trusted / "ca.crt", only_ca)
    shown = refusal("postgresql", "verify-full", only_ca, **{**named, "user": "shown"})
    assert "connection requires a valid client certificate" in shown

    Authority(tmp_path / "other")
    for folder in (tmp_path / "other", tmp_path / "nothing"):
        sentence = refusal("postgresql", "verify-full", folder, **named)
        assert "has a certificate that is not trusted (" in sentence
        assert "add the certificate of its CA to the Secret, as ca.crt" in sentence
    (tmp_path / "other" / "ca.crt").write_text("no certificate")
    for folder in (tmp_path / "other", tmp_path / "nothing"):
        sentence = refusal("postgresql", "verify-ca", folder, **named)
        assert f"cannot be used: {folder}/ca.crt (" in sentence
    assert "rejects the login of" in refusal(
        "postgresql", "require", trusted, **{**login, "password": "wrong"}
    )
    # A whole task, and what it said to the server.
    secret = environment(trusted, **{**named, "user": "secure"})
    cluster = Cluster(small_data, tmp_path / "output", "postgresql", "verify-full", **secret)
    assert cluster.run("ExampleGen", "run-1")[1].startswith("ExampleGen: executed")
    assert cluster.prepare("run-2", "ExampleGen") == ["cached"]


@pytest.mark.slow
def test_mariadb_with_tls(mariadb: MariaDB, small_data: Path, tmp_path: Path) -> None:
    login = mariadb.login
    assert "does not offer TLS, which metadata.tls=require requires" in refusal(
        "mysql", "require", tmp_path, **login
    )
    authority, files = Authority(tmp_path / "ca"), tmp_path / "server"
    authority.sign(files, "server", "localhost")
    trusted = authority.ca.parent
    mariadb.restart(f"--ssl-cert={files / 'tls.crt'}", f"--ssl-key={files / 'tls.key'}")
    for tls in ("require", "verify-ca"):
        opens("mysql", tls, trusted, **login)
    named = {**login, "host": "localhost"}
    assert "has a certificate for another host (" in refusal(
        "mysql", "verify-full", trusted, **login
    )
    assert "has a certificate that is not trusted (" in refusal(
        "mysql", "verify-full", tmp_path, **named
    )
    assert "rejects the login" in refusal("mysql", "require", trusted, **{**login, "password": "x"})
    secret = environment(trusted, **named)
    cluster = Cluster(small_data, tmp_path / "output", "mysql", "verify-full", **secret)
    assert cluster.run("ExampleGen", "run-1")[0] == 0


@pytest.mark.slow
def test_mysql_s_own_server(mysql: MySQL, tmp_path: Path) -> None:
    login = mysql.login

    def said(tls: str = "off", **changes: str) -> str:
        return refusal("mysql", tls, tmp_path, **{**login, **changes})

    shutil.copy(mysql.ca, tmp_path / "ca.crt")
    # As a new user is made since MySQL 8.0.
    for tls in ("off", "require", "verify-ca"):
        assert (
            "authenticates the user 'segmentation' with caching_sha2_password, which ml-metadata's "
            "MySQL client does not support; run ALTER USER 'segmentation'@'%' IDENTIFIED WITH "
            "mysql_native_password BY 'PASSWORD' there, or use PostgreSQL"
        ) in said(tls)
    mysql.sql(mysql.user("rsa", "sha256_password"))
    assert "with sha256_password, which" in said(user="rsa")
    # The remedy helps.
    mysql.sql(
        f"ALTER USER segmentation IDENTIFIED WITH mysql_native_password BY '{login['password']}'"
    )
    for tls in ("off", "require", "verify-ca"):
        opens("mysql", tls, tmp_path, **login)
    assert "has a certificate for another host (" in said("verify-full")
    assert "has no database 'nope'" in said(database="nope")
    mysql.sql("CREATE USER reader IDENTIFIED WITH mysql_native_password BY 'reads-only'")
    mysql.sql("GRANT SELECT ON metadata.* TO reader")
    mysql.sql("DROP DATABASE metadata", "CREATE DATABASE metadata")
    rights = said(user="reader", password="reads-only")
    assert "create or use tables in the database 'metadata' (CREATE command denied" in rights
    assert "run GRANT ALL ON metadata.* TO reader there" in rights
    mysql.sql("SET GLOBAL require_secure_transport = ON")
    assert "without TLS (Connections using insecure transport are prohibited" in said()
    opens("mysql", "require", tmp_path, **login)
