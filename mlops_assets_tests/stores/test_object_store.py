"""The lakehouse on S3: a real server in a process of its own, and one that loses commits."""

import http.client
import multiprocessing
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import polars as pl
import pytest

from mlops_assets.stores.lakehouse import Commit, Lakehouse, UnsafeStore
from mlops_assets_tests.integration.served import free_port

TABLE = "nyc_flights/flight_events"
BUCKET = "s3://lake"
COMMITS = 8


def options(port):
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
    }


@pytest.fixture(scope="module")
def s3():
    """The port of an S3 server with a bucket."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, **quiet) as server:
        create = urllib.request.Request(f"http://127.0.0.1:{port}/lake", method="PUT")
        for _ in range(300):
            try:
                urllib.request.urlopen(create, timeout=5).close()
                break
            except OSError:
                assert server.poll() is None
                time.sleep(0.1)
        yield port
        server.terminate()


@pytest.fixture(scope="module")
def careless(s3):
    """A stand-in for a store that ignores If-None-Match: it passes on all but that header."""

    class PassOn(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {k: v for k, v in self.headers.items() if k.lower() != "if-none-match"}
            onward = http.client.HTTPConnection("127.0.0.1", s3)
            onward.request(self.command, self.path, body, headers)
            answer = onward.getresponse()
            content = answer.read()
            onward.close()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), PassOn) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def rows(writer, number=0):
    return pl.DataFrame({"writer": [writer], "number": [number]})


def test_reads_and_writes(s3):
    lakehouse = Lakehouse(f"{BUCKET}/one", options(s3))
    lakehouse.append(TABLE, rows("a"), Commit())
    lakehouse.append(TABLE, rows("b"), Commit(note="second"))
    assert lakehouse.tables() == [TABLE]
    assert sorted(lakehouse.scan(TABLE).collect()["writer"]) == ["a", "b"]
    assert lakehouse.scan(TABLE, version=0).collect().equals(rows("a"))


def append_again_and_again(uri, port, writer):
    lakehouse = Lakehouse(uri, options(port))
    for number in range(COMMITS):
        lakehouse.append(TABLE, rows(writer, number), Commit())


@pytest.mark.slow
def test_two_processes_that_append_at_once_lose_nothing(s3):
    spawn = multiprocessing.get_context("spawn")
    uri = f"{BUCKET}/two"
    writers = [spawn.Process(target=append_again_and_again, args=(uri, s3, w)) for w in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(timeout=120)
    assert [writer.exitcode for writer in writers] == [0, 0]
    lakehouse = Lakehouse(uri, options(s3))
    found = lakehouse.scan(TABLE).collect().rows()
    assert sorted(found) == [(w, n) for w in "ab" for n in range(COMMITS)]
    assert lakehouse.version(TABLE) == 2 * COMMITS - 1


def test_a_store_that_ignores_the_condition_is_refused_before_anything_is_written(s3, careless):
    with pytest.raises(UnsafeStore, match=f"store of {BUCKET}/three ignores If-None-Match"):
        Lakehouse(f"{BUCKET}/three", options(careless)).append(TABLE, rows("a"), Commit())
    listed = urllib.request.urlopen(f"http://127.0.0.1:{s3}/lake?prefix=three", timeout=5)
    assert b"<Contents>" not in listed.read()


def test_a_store_that_is_safe_keeps_nothing_of_the_probe(s3):
    Lakehouse(f"{BUCKET}/four", options(s3)).require_safe()
    listed = urllib.request.urlopen(f"http://127.0.0.1:{s3}/lake?prefix=four", timeout=5)
    assert b"<Contents>" not in listed.read()


def test_a_lake_with_a_lock_of_its_own_is_not_probed(careless):
    locked = options(careless) | {"AWS_S3_LOCKING_PROVIDER": "dynamodb"}
    Lakehouse(f"{BUCKET}/five", locked).require_safe()
