"""Schemathesis over the API's description: requests made from it, right and wrong, are never answered with a status of 500 or above, nor with what it does not say.

    pip install schemathesis; cargo build --release [--features outbound]
    python3 tests/scripts/schemathesis_run.py [--minutes 10] [--binary target/release/throughline]

Starts a server on a free port and an empty folder, with a token for everything, and, where the build can ask one, an upstream of its own for the proxy.
A deadline of a millisecond is rightly answered with 503: X-Deadline-Ms is fixed. `/v1/alarms/stream` never ends, and is left out.
"""

import argparse
import hashlib
import http.server
import json
import re
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

TOKEN = "tl_schemathesis"
CHECKS = ("not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
          "response_schema_conformance,ignored_auth,unsupported_method")
CONFIG = """
[parameters]
"header.X-Deadline-Ms" = "60000"
[auth.openapi.bearer]
bearer = "TOKEN"
"""


class Upstream(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        reply = {"id": "c", "object": "chat.completion", "created": 1, "model": "m",
                 "choices": [{"index": 0, "message": {"role": "assistant", "content": "Good morning!"}, "finish_reason": "stop"}]}
        body = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--minutes", type=float, default=10)
    arguments.add_argument("--binary", type=Path, default=Path("target/release/throughline"))
    args = arguments.parse_args()
    other = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        sha256 = hashlib.sha256(TOKEN.encode()).hexdigest()
        (home / "tokens.toml").write_text(
            f'[[tokens]]\nname = "all"\nsha256 = "{sha256}"\nscopes = ["ingest", "read", "review", "admin"]\n')
        (home / "schemathesis.toml").write_text(CONFIG.replace("TOKEN", TOKEN))
        command = [str(args.binary.resolve()), "serve", "--bind", "127.0.0.1:0", "--folder", str(home / "data"), "--tokens", str(home / "tokens.toml")]
        proxy = ["--upstream", f"http://127.0.0.1:{other.server_address[1]}/v1"]
        # A build that opens no connection ends at once.
        for more in (proxy, []):
            server = subprocess.Popen(command + more, stderr=subprocess.PIPE, text=True)
            if url := address(server):
                break
        else:
            sys.exit("the server does not start")
        threading.Thread(target=server.stderr.read, daemon=True).start()
        skipped = ["--exclude-path", "/v1/alarms/stream"] + ([] if more else ["--exclude-path", "/v1/chat/completions"])
        try:
            run = subprocess.run(
                ["schemathesis", "--config-file", str(home / "schemathesis.toml"), "run", f"{url}/openapi.json", "--checks", CHECKS,
                 "--phases", "examples,coverage,fuzzing", "--max-time", str(int(60 * args.minutes)), "--continue-on-failure", *skipped], cwd=home)
        finally:
            server.terminate()
            server.wait()
    sys.exit(run.returncode)


def address(server):
    """Where it listens; nothing where it ended instead."""
    for line in server.stderr:
        if match := re.search(r"listening on (\S+)", line):
            return match.group(1)
    return None


if __name__ == "__main__":
    main()
