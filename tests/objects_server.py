"""An object store on the loopback: moto's server, which speaks the protocol of S3, in a process of its own."""

import itertools
import re
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from urllib.error import URLError
from urllib.request import Request, urlopen

KEY_ID, SECRET = "AKIAEXAMPLEKEYID0001", "a-secret-that-no-message-shows"


class ObjectServer:
    """The running server; `log` is the file that it writes a line into for each request."""

    def __init__(self, port, log):
        self.url = f"http://127.0.0.1:{port}"
        self._log = log
        self._numbers = itertools.count()

    def new_address(self):
        """An address in a bucket of its own."""
        bucket = f"bucket-{next(self._numbers)}"
        urlopen(Request(f"{self.url}/{bucket}", method="PUT"), timeout=10).close()
        return f"s3://{bucket}/memories/birds"

    @contextmanager
    def requests(self):
        """Yield a list that holds the requests of the block afterwards, as (method, key, status)."""
        start = self._log.stat().st_size
        seen = []
        yield seen
        text = self._log.read_bytes()[start:].decode()
        seen += re.findall(r'"(?:\x1b\[[\d;]*m)*([A-Z]+) /bucket-\d+/?(?:memories/birds/)?([^ ]*) HTTP.*?" (\d+)', text)


def environment(url, cache):
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "XDG_CACHE_HOME": str(cache),
    }


@contextmanager
def running_server(folder):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / "requests.log"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urlopen(f"http://127.0.0.1:{port}/moto-api/", timeout=5).close()
                break
            except (URLError, ConnectionError):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        yield ObjectServer(port, log)
    finally:
        process.kill()
        process.wait()
