import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tinynet.errors import UserError
from tinynet.sources.download import download
from tinynet.sources.tiny_imagenet import fetch_tiny_imagenet

DATA = bytes(range(256)) * 5000
MD5 = hashlib.md5(DATA).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves DATA; may know no ``ranges``, ``cut`` the connection, have an error ``status``."""

    ranges = True
    status: int | None = None
    cut: int | None = None
    asked: list[str | None]

    def do_GET(self) -> None:
        self.asked.append(self.headers.get("Range"))
        start = 0
        if self.ranges and self.headers.get("Range"):
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
        if self.status or start >= len(DATA):
            self.send_error(self.status or 416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(DATA) - start))
        self.end_headers()
        self.wfile.write(DATA[start : self.cut])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[type[Handler], str]]:
    handler = type("Fresh", (Handler,), {"asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield handler, f"http://127.0.0.1:{http.server_port}/t.zip"
        http.shutdown()
        thread.join()


def test_a_download_is_checked_and_kept(server: tuple[type[Handler], str], tmp_path: Path) -> None:
    handler, url = server
    assert download(url, tmp_path / "new/t.zip", MD5).read_bytes() == DATA
    assert download(url, tmp_path / "new/t.zip", MD5).read_bytes() == DATA
    assert handler.asked == [None]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["t.zip"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_goes_on(
    server: tuple[type[Handler], str], tmp_path: Path, ranges: bool
) -> None:
    handler, url = server
    handler.ranges, handler.cut = ranges, 500_000
    with pytest.raises(UserError, match=r"run again to go on"):
        download(url, tmp_path / "t.zip", MD5)
    assert not (tmp_path / "t.zip").exists()
    handler.cut = None
    assert download(url, tmp_path / "t.zip", MD5).read_bytes() == DATA
    assert handler.asked == [None, "bytes=500000-"]


def test_a_whole_part_is_not_fetched_again(
    server: tuple[type[Handler], str], tmp_path: Path
) -> None:
    (tmp_path / "t.zip.part").write_bytes(DATA)
    assert download(server[1], tmp_path / "t.zip", MD5).read_bytes() == DATA


def test_another_file_is_refused(server: tuple[type[Handler], str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not the file wanted .* --url MIRROR"):
        download(server[1], tmp_path / "t.zip", "0" * 32)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ranges", [True, False])
def test_a_wrong_part_is_thrown_away(
    server: tuple[type[Handler], str], tmp_path: Path, ranges: bool
) -> None:
    server[0].ranges = ranges
    (tmp_path / "t.zip.part").write_bytes(b"x" * 1000)
    if ranges:
        with pytest.raises(UserError, match=r"run again"):
            download(server[1], tmp_path / "t.zip", MD5)
    assert download(server[1], tmp_path / "t.zip", MD5).read_bytes() == DATA


def test_a_file_address_is_copied(tmp_path: Path) -> None:
    (tmp_path / "mirror.zip").write_bytes(DATA)
    url = (tmp_path / "mirror.zip").as_uri()
    assert download(url, tmp_path / "t.zip", MD5).read_bytes() == DATA
    assert (tmp_path / "mirror.zip").read_bytes() == DATA


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/t.zip", "file:///no/where", "http://[bad/t.zip", "http://a b/"]
)
def test_what_cannot_be_reached_names_the_remedy(tmp_path: Path, url: str) -> None:
    with pytest.raises(UserError, match=r"--url MIRROR.*--path FILE") as caught:
        download(url, tmp_path / "t.zip", MD5)
    assert url in str(caught.value)


@pytest.mark.parametrize("url", ["ftp://x/t.zip", "/t.zip", "data:,x"])
def test_other_schemes_are_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(UserError, match=r"not a http, https or file address"):
        download(url, tmp_path / "t.zip", MD5)


def test_a_missing_page_is_said(server: tuple[type[Handler], str], tmp_path: Path) -> None:
    server[0].status = 404
    with pytest.raises(UserError, match=r"404"):
        download(server[1], tmp_path / "t.zip", MD5)


def test_a_mirror_of_tiny_imagenet_must_hold_the_same_file(
    server: tuple[type[Handler], str], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"not 90528d7ca1a48142e341f4ef8d21d0de"):
        fetch_tiny_imagenet(tmp_path, server[1])
    assert list(tmp_path.iterdir()) == []
