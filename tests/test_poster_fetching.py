"""Posters from servers that misbehave: what is kept, what is refused, and what must never be connected to."""

import io
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pandas as pd
import pytest
from PIL import Image

from userllm.core.errors import InputError
from userllm.cli.main import main
from userllm.visual.guarded_http import FetchSettings
from userllm.visual.poster_download import fetch_posters
from userllm.visual.posters import find_posters, poster_name

HERE = "127.0.0.1"
QUICK = FetchSettings(rate=1000, retries=2, timeout=5, first_wait=0.01, longest_wait=0.5, most_bytes=100_000)


def only_here(address) -> bool:
    "The policy of these tests: one loopback address, and no other."
    return str(address) == HERE


def picture(number: int) -> bytes:
    "A small picture of its own for each number, in turn as JPEG, PNG and WebP."
    noise = Image.frombytes("RGB", (12, 18), random.Random(number).randbytes(12 * 18 * 3))
    noise.save(buffer := io.BytesIO(), ("JPEG", "PNG", "WEBP")[number % 3])
    return buffer.getvalue()


def bomb() -> bytes:
    "A PNG of a few hundred bytes that would unpack to 2,500 million pixels."

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b"")


class Misbehaving(BaseHTTPRequestHandler):
    """Serves /NUMBER; `server.faults` says what is wrong with a number, and `server.spells` for how
    many requests."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        number = int(self.path.strip("/").split("-")[0])
        with self.server.lock:
            self.server.asked[number] += 1
            fault = self.server.faults.get(number)
            if self.server.asked[number] > self.server.spells.get(number, 1 << 30):
                fault = None
        try:
            getattr(self, fault or "good")(number)
        except OSError:
            self.close_connection = True

    def answer(self, content: bytes, status: int = 200, length: int | None = -1, **headers):
        """An answer that calls itself a JPEG and suggests a file name; without a length it ends with
        the connection."""
        self.send_response(status)
        more = {
            "Content-Type": "image/jpeg",
            "Content-Disposition": 'attachment; filename="../evil.jpg"',
        } | headers
        if length is None:
            more["Connection"] = "close"
        else:
            more["Content-Length"] = str(len(content) if length == -1 else length)
        for name, value in more.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def good(self, number):
        self.answer(picture(number))

    def moved(self, number):
        self.good(number) if "-" in self.path else self.answer(b"", 302, Location=f"/{number}-there")

    def failing(self, number):
        self.answer(b"", 500)

    def busy(self, number):
        self.answer(b"", 503, Retry_After="0")

    def gone(self, number):
        self.answer(b"<html>gone</html>", 404)

    def page(self, number):
        self.answer(b"<!DOCTYPE html><html>please log in</html>" * 20)

    def other(self, number):
        self.answer((b"", b"%PDF-1.7", b'{"error": 1}', b"GIF89a\x01\0\x01\0\0\0\0;")[number % 4])

    def pixels(self, number):
        self.answer(bomb())

    def circle(self, number):
        self.answer(b"", 302, Location=f"/{number}-again")

    def inwards(self, number):
        self.answer(
            b"",
            302,
            Location=("http://127.0.0.2/", "http://[::1]/", "http://10.0.0.1/", "http://169.254.169.254/")[
                number % 4
            ],
        )

    def local(self, number):
        self.answer(b"", 302, Location="file:///etc/hostname")

    def far_port(self, number):
        self.answer(b"", 302, Location=f"http://{HERE}:99999/1")

    def gone_for_long(self, number):
        self.answer(b"", 404, Retry_After="3600")

    def odd_date(self, number):
        self.answer(b"", 503, Retry_After="Thu, 01 Jan 2026 12:00:09 +99999999999999")

    def long_pause(self, number):
        self.answer(b"", 429, Retry_After="3600")

    def cut(self, number):
        self.answer(picture(number)[:150], length=len(picture(number)))
        self.close_connection = True

    def cut_quietly(self, number):
        self.answer(picture(number)[:-3], length=None)

    def large(self, number):
        self.answer(b"\xff" * 200_000)

    def garbage(self, number):
        self.wfile.write(b"\0\1\2 nonsense\r\n\r\n")
        self.close_connection = True

    def closed(self, number):
        self.close_connection = True

    def silent(self, number):
        self.server.over.wait(self.server.silence)
        self.close_connection = True

    def endless(self, number):
        self.answer(b"", length=None)
        while not self.server.over.is_set():
            self.wfile.write(b"\xff" * 50_000)

    def dripping(self, number):
        self.answer(picture(number)[:9], length=5000)
        while not self.server.over.wait(0.2):
            self.wfile.write(b"\xff")

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    "The misbehaving server, on a port of its own."

    class Quiet(ThreadingHTTPServer):
        request_queue_size = 100

        def handle_error(self, *_):
            pass

    with Quiet((HERE, 0), Misbehaving) as server:
        server.lock, server.over, server.silence = threading.Lock(), threading.Event(), 12
        server.asked, server.faults, server.spells = Counter(), {}, {}
        server.at = f"http://{HERE}:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.over.set()
        server.shutdown()


def manifest_of(server, numbers, names="{}".format) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "item_id": [names(number) for number in numbers],
            "url": [f"{server.at}/{number}" for number in numbers],
        }
    )


def names_in(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "missing.parquet")


LASTING = {
    "gone": "HTTP 404",
    "page": "not a picture",
    "other": "not a picture",
    "pixels": "too many pixels",
    "large": "too large",
    "endless": "too large",
    "circle": "too many redirects",
    "inwards": "address not allowed",
    "local": "not http",
    "far_port": "not a URL",
    "gone_for_long": "HTTP 404",
}
TRIED_AGAIN = {
    "failing": "HTTP 500",
    "busy": "HTTP 503",
    "odd_date": "HTTP 503",
    "cut": "broken answer",
    "cut_quietly": "broken picture",
    "garbage": "broken answer",
    "closed": "broken answer",
}


def test_faults_that_last_are_reported_and_leave_no_file(server, tmp_path):
    expected = LASTING | TRIED_AGAIN
    server.faults = dict(enumerate(expected))
    report = fetch_posters(manifest_of(server, range(len(expected))), tmp_path, QUICK, only_here)
    assert dict(zip(expected, report.missing["reason"], strict=True)) == expected
    assert dict(zip(expected, report.missing["attempts"])) == {
        fault: 1 if fault in LASTING else 3 for fault in expected
    }
    assert names_in(tmp_path) == []


def test_addresses_that_are_none_stop_nobody(server, tmp_path):
    odd = [f"http://{HERE}:{port}/1" for port in ("0", "65536", "99999999999999", "port", "-1")] + [
        "http://[::1",
        "http://",
        "http://\0/",
        "http://é é/",
    ]
    manifest = pd.DataFrame(
        {"item_id": [str(row) for row in range(len(odd) + 1)], "url": [*odd, f"{server.at}/1"]}
    )
    report = fetch_posters(manifest, tmp_path, QUICK, only_here)
    assert report.missing["item_id"].tolist() == manifest["item_id"].tolist()[:-1] and report.fetched == 1
    assert report.missing["reason"].isin(["not a URL", "not http", "host not found"]).all(), report.missing


def test_faults_that_pass_are_tried_again(server, tmp_path):
    numbers = range(3 * len(TRIED_AGAIN))
    server.faults, server.spells = (
        {number: [*TRIED_AGAIN][number // 3] for number in numbers},
        dict.fromkeys(numbers, 2),
    )
    report = fetch_posters(manifest_of(server, numbers), tmp_path, QUICK, only_here)
    assert report.fetched == len(numbers) and not len(report.missing)
    assert {name: (tmp_path / name).read_bytes() for name in names_in(tmp_path)} == {
        f"{number}{('.jpg', '.png', '.webp')[number % 3]}": picture(number) for number in numbers
    }


@pytest.mark.parametrize("fault", ["silent", "dripping"])
def test_a_server_that_is_slow_is_left(server, tmp_path, fault):
    server.faults[1], server.silence = fault, 90
    began = time.monotonic()
    report = fetch_posters(
        manifest_of(server, [1]),
        tmp_path,
        FetchSettings(retries=0, timeout=0.6, longest_request=1.5),
        only_here,
    )
    assert report.missing["reason"].tolist() == ["timed out"] and time.monotonic() - began < 60


def test_a_server_that_asks_for_a_long_pause_is_left_alone(server, tmp_path):
    server.faults[0] = "long_pause"
    report = fetch_posters(
        manifest_of(server, range(30)), tmp_path, FetchSettings(concurrency=1, longest_wait=1), only_here
    )
    assert server.asked == {0: 1} and len(report.missing) == 30
    assert set(report.missing["reason"]) == {"server asks for a pause"}


def test_what_is_there_is_not_fetched_again(server, tmp_path):
    (tmp_path / "1.jpg").write_bytes(b"mine")
    server.faults[2] = "gone"
    names = lambda number: f"film/{number}" if number == 3 else str(number)
    for fetched, there in ((1, 1), (0, 2)):
        report = fetch_posters(manifest_of(server, [1, 2, 3], names), tmp_path, QUICK, only_here)
        assert (report.fetched, report.there_before, len(report.missing)) == (fetched, there, 1)
    assert server.asked == {2: 2, 3: 1} and (tmp_path / "1.jpg").read_bytes() == b"mine"
    assert names_in(tmp_path) == ["1.jpg", "film%2F3.jpg"]
    assert find_posters(tmp_path, ["1", "2", "film/3"])["poster"].astype(bool).tolist() == [True, False, True]


@pytest.fixture
def listener():
    "A socket on another loopback address that counts who knocks."
    with socket.socket() as door:
        try:
            door.bind(("127.0.0.2", 0))
        except OSError:
            pytest.skip("this system has one loopback address only")
        door.listen()
        door.setblocking(False)
        yield door


def knocks(listener) -> int:
    time.sleep(0.05)
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return 0
    return 1


def test_the_usual_policy_connects_to_nothing_inside(listener, tmp_path):
    port = listener.getsockname()[1]
    hosts = [
        "127.0.0.2",
        "2130706434",
        "0x7f000002",
        "0177.0.0.2",
        "127.2",
        "[::ffff:127.0.0.2]",
        "user:word@127.0.0.2",
    ]
    manifest = pd.DataFrame(
        {
            "item_id": [str(row) for row in range(len(hosts))],
            "url": [f"http://{host}:{port}/" for host in hosts],
        }
    )
    report = fetch_posters(manifest, tmp_path, QUICK)
    assert report.missing["reason"].isin(["address not allowed", "not a URL"]).all() and len(
        report.missing
    ) == len(hosts)
    assert knocks(listener) == 0


def test_a_redirect_goes_through_the_policy(server, listener, tmp_path, monkeypatch):
    where = f"http://127.0.0.2:{listener.getsockname()[1]}/"
    monkeypatch.setattr(Misbehaving, "inwards", lambda self, number: self.answer(b"", 302, Location=where))
    server.faults[0] = "inwards"
    report = fetch_posters(manifest_of(server, [0]), tmp_path, QUICK, only_here)
    assert (
        report.missing["reason"].tolist() == ["address not allowed"]
        and server.asked == {0: 1}
        and knocks(listener) == 0
    )


def test_a_name_is_asked_for_once_and_the_answer_is_what_is_connected_to(server, tmp_path, monkeypatch):
    questions, real = [], socket.getaddrinfo

    def rebinding(host, port, *rest, **more):
        if host not in ("posters.example", b"posters.example"):
            return real(host, port, *rest, **more)
        questions.append(host)
        return real(HERE if len(questions) == 1 else "127.0.0.2", port, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    server.faults[1] = "closed"
    manifest = pd.DataFrame(
        {
            "item_id": ["0", "1"],
            "url": [f"http://posters.example:{server.server_port}/{number}" for number in (0, 1)],
        }
    )
    report = fetch_posters(manifest, tmp_path, FetchSettings(concurrency=1, first_wait=0.01), only_here)
    assert names_in(tmp_path) == ["0.jpg"] and report.missing["reason"].tolist() == ["address not allowed"]
    assert len(questions) == 2  # one for each connection, and the second answer was refused


def test_one_call_a_folder(server, tmp_path):
    server.faults[0], server.silence = "silent", 2
    first = threading.Thread(
        target=fetch_posters, args=(manifest_of(server, [0]), tmp_path, FetchSettings(retries=0), only_here)
    )
    first.start()
    while not server.asked:
        time.sleep(0.01)
    with pytest.raises(InputError, match="already"):
        fetch_posters(manifest_of(server, [0]), tmp_path, QUICK, only_here)
    first.join()


def test_the_command_counts_what_is_missing(tmp_path, capsys):
    (tmp_path / "list.csv").write_text(
        "item_id,url\n1,http://127.0.0.1/1.jpg\n2,\n3,http://[::1]/\n4,x\n", encoding="utf-8"
    )
    Image.new("RGB", (9, 9)).save(tmp_path / "4.png")
    assert main(["posters", "--manifest", str(tmp_path / "list.csv"), "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert (
        "1 of 4 posters" in out
        and "address not allowed" in out
        and "no address" in out
        and f"--posters {tmp_path}" in out
    )
    for options, words in (
        (["--manifest", "none.csv"], "none.csv"),
        (["--manifest", str(tmp_path / "list.csv"), "--rate", "0"], "rate is 0"),
    ):
        assert main(["posters", *options, "--out", str(tmp_path / "out")]) == 2
        assert words in capsys.readouterr().err and not (tmp_path / "out").exists()


CHILD = """
import sys
import pandas as pd
from userllm.visual.guarded_http import FetchSettings
from userllm.visual.poster_download import fetch_posters
settings = FetchSettings(concurrency=16, rate=300, retries=3, timeout=10, longest_request=20,
                         first_wait=0.05, longest_wait=2, most_bytes=100_000)
fetch_posters(pd.read_csv(sys.argv[1], dtype=str), sys.argv[2], settings, lambda address: str(address) == "127.0.0.1")
"""
PASSING = ["failing", "busy", "cut", "cut_quietly", "garbage", "closed", "silent", "moved"]
STORM = LASTING | {"dripping": "timed out", "silent": "timed out"}


def start(place) -> subprocess.Popen:
    "A child that fetches; what it says goes to a file, because a pipe that nobody reads would stop it."
    with open(place / "log.txt", "w", encoding="utf-8") as log:
        return subprocess.Popen(
            [sys.executable, "-c", CHILD, str(place / "list.csv"), str(place / "posters")],
            stderr=log,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )


def kill_at(place, count: int) -> list[str]:
    "Start a child and kill it when `count` posters are there; the names that are."
    child = start(place)

    def whole():
        return (
            [name for name in names_in(place / "posters") if not name.startswith(".tmp-")]
            if (place / "posters").exists()
            else []
        )

    while child.poll() is None and len(whole()) < count:
        time.sleep(0.05)
    assert child.poll() is None, (
        f"it ended before it was killed\n{(place / 'log.txt').read_text(encoding='utf-8')[-2000:]}"
    )
    child.send_signal(signal.SIGKILL)
    child.wait()
    return whole()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_storm(server, tmp_path):
    chance = random.Random(0)
    faulty = chance.sample(range(1000), 300)
    server.faults = {number: PASSING[row % len(PASSING)] for row, number in enumerate(faulty[:150])}
    server.spells = {
        number: 1 + row % 2 for row, number in enumerate(faulty[:150]) if server.faults[number] != "moved"
    }
    lasting = [[*LASTING][row % len(LASTING)] for row in range(144)] + ["dripping"] * 3 + ["silent"] * 3
    server.faults |= dict(zip(faulty[150:], lasting, strict=True))
    name_of = lambda number: f"../film {number}" if number % 50 == 0 else str(number)
    manifest_of(server, chance.sample(range(1000), 1000), name_of).to_csv(tmp_path / "list.csv", index=False)
    file_of = {
        number: poster_name(name_of(number)) + (".jpg", ".png", ".webp")[number % 3] for number in range(1000)
    }
    good = set(range(1000)) - set(faulty[150:])
    there, asked = {}, {}
    for count in (chance.randint(150, 350), chance.randint(500, 650)):
        names = set(kill_at(tmp_path, count))
        there[count] = [number for number in good if file_of[number] in names]
        asked[count] = [server.asked[number] for number in there[count]]
        assert count <= len(there[count]) < len(good)
        (tmp_path / "posters" / ".tmp-0badbeef-1.jpg").write_bytes(b"half")
    assert start(tmp_path).wait() == 0

    folder = tmp_path / "posters"
    assert names_in(folder) == sorted(file_of[number] for number in good)
    wrong = [number for number in good if (folder / file_of[number]).read_bytes() != picture(number)]
    assert wrong == []
    for count, numbers in there.items():  # what was there when a kill came was never asked for again
        assert [server.asked[number] for number in numbers] == asked[count]
    again = sum(server.asked[number] - 1 for number in range(1000) if number not in server.faults)
    assert again <= 2 * 16, "more was fetched twice than can have been under way at the two kills"
    missing = pd.read_parquet(folder / "missing.parquet")
    expected = {name_of(number): STORM[server.faults[number]] for number in faulty[150:]}
    assert dict(zip(missing["item_id"], missing["reason"])) == expected
    assert not (tmp_path / "film 0.jpg").exists() and sorted(path.name for path in tmp_path.iterdir()) == [
        "list.csv",
        "log.txt",
        "posters",
    ]
    print(f"{sum(server.asked.values()):,} requests, {again} repeated by the kills")


@pytest.mark.slow
def test_an_interrupt_ends_it_at_once(server, tmp_path):
    server.faults, server.silence = dict.fromkeys(range(20), "silent"), 90
    manifest_of(server, range(20)).to_csv(tmp_path / "list.csv", index=False)
    child = start(tmp_path)
    while not server.asked and child.poll() is None:
        time.sleep(0.05)
    began = time.monotonic()
    child.send_signal(signal.SIGINT)
    child.wait(timeout=60)
    assert child.returncode != 0 and time.monotonic() - began < 8  # the client's own patience is 10
    assert names_in(tmp_path / "posters") == []
