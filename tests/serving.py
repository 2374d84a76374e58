# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
"""Start and stop `staronnx serve`; talk to it over plain HTTP.

    with Server(["--models", repository]) as server:
        status, headers, body = server.get("/v2")

Leaving the block stops the server by SIGTERM and fails when it does not end with 0, or when a
sanitizer reported something.
"""

import http.client
import json
import os
import re
import signal
import subprocess
import tempfile
import time

PROGRAM = os.environ.get("STARONNX", "build/staronnx")
START_SECONDS = float(os.environ.get("STARONNX_START_SECONDS", "120"))
STOP_SECONDS = 60
SANITIZER = re.compile(r"(Sanitizer|runtime error:)")


class Server:
    """A server on ports that it chose itself."""

    def __init__(self, arguments, check=True, environment=None):
        self.check = check
        self.log = tempfile.NamedTemporaryFile(prefix="staronnx-log-", mode="w+", errors="replace")
        command = [PROGRAM, "serve", "--http-port", "0", "--metrics-port", "0", *arguments]
        self.begin = time.monotonic()
        self.process = subprocess.Popen(
            command, stderr=self.log, stdout=self.log, env={**os.environ, **(environment or {})}
        )
        self.port = self.metrics_port = None
        try:
            self._wait()
        except BaseException:
            self.kill()
            raise

    def _wait(self):
        """The log tells the ports; the health endpoint tells that it serves."""
        deadline = self.begin + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with {self.process.returncode}:\n{self.text()}")
            if self.port is None:
                text = self.text()
                found = re.search(r"ready: http://[^:]+:(\d+)/v2", text)
                if found:
                    self.port = int(found.group(1))
                    self.metrics_port = int(re.search(r"metrics at http://[^:]+:(\d+)/", text)[1])
                    continue
            else:
                try:
                    if self.get("/v2/health/live", timeout=2)[0] == 200:
                        self.ready_seconds = time.monotonic() - self.begin
                        return
                except OSError:
                    pass
            time.sleep(0.002)
        raise RuntimeError(f"the server is not ready after {START_SECONDS} s:\n{self.text()}")

    def text(self):
        with open(self.log.name, encoding="utf-8", errors="replace") as f:
            return f.read()

    @property
    def url(self):
        return f"127.0.0.1:{self.port}"

    def request(self, method, path, body=None, headers=None, timeout=60, port=None):
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=timeout)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            data = response.read()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, data
        finally:
            connection.close()

    def get(self, path, **more):
        return self.request("GET", path, **more)

    def infer(self, name, inputs, timeout=60, **more):
        """One JSON request; `inputs`: name -> (datatype, shape, flat list).  Status and object."""
        body = {
            "inputs": [
                {"name": n, "datatype": d, "shape": list(s), "data": v}
                for n, (d, s, v) in inputs.items()
            ],
            **more,
        }
        status, headers, data = self.request(
            "POST", f"/v2/models/{name}/infer", json.dumps(body), timeout=timeout
        )
        return status, json.loads(data), headers

    def metrics(self):
        """Samples of the metrics page: {'name{label="x"}': value}."""
        text = self.get("/metrics", port=self.metrics_port)[2].decode()
        lines = (line.rsplit(" ", 1) for line in text.splitlines() if line and line[0] != "#")
        return {name: float(number) for name, number in lines}

    def stats(self, name):
        return json.loads(self.get(f"/v2/models/{name}/stats")[2])["model_stats"][0]

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self):
        try:
            code = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError(f"the server does not stop:\n{self.text()[-4000:]}") from None
        text = self.text()
        if SANITIZER.search(text):
            raise RuntimeError(f"a sanitizer reported:\n{text[-8000:]}")
        return code

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            try:
                self.stop()
            except RuntimeError:
                pass
            self.log.close()
            return False
        code = self.stop()
        text = self.text()
        self.log.close()
        if self.check and code != 0:
            raise RuntimeError(f"the server ended with {code}:\n{text[-4000:]}")
        return False


def run(*arguments, timeout=120, environment=None):
    """Run the program; a CompletedProcess with text output."""
    done = subprocess.run(
        [PROGRAM, *arguments], capture_output=True, text=True, timeout=timeout, check=False,
        env={**os.environ, **(environment or {})},
    )
    if SANITIZER.search(done.stderr):
        raise RuntimeError(f"a sanitizer reported:\n{done.stderr[-8000:]}")
    return done
