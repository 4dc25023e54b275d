"""How the sidecar stands a load: throughput, latency, memory over time; then as much as it can do, twice that, and after.

    cargo build --release
    python3 benches/load.py [--users 1000] [--rate 8] [--minutes 20] [--long 0] [--overload-seconds 60] [-- SERVE OPTIONS]

Starts `target/release/throughline serve` on a free port and a folder of its own (or on the PostgreSQL database of THROUGHLINE_DATABASE), and sends
turns of a user's message and a reply, of so many users, at a steady rate, over connections that are kept open; how many tokens a turn has is counted by
the server. Each user comes for a session of some turns, so many seconds apart, and then again when all others have been there (`--session-turns 1`: each
in turn, the worst for a cache); sessions begin one after another, not all at once.

With `--long N` others send N turns a minute of a message of 60 KiB beside the steady load, each one a history of its own: many windows to read while
the others wait.

What it can do is measured by callers who each wait for an answer, without a pause; for twice that, a flood of other users comes beside the steady load and
goes again. Server and load share the machine's cores. Latency is from the moment a turn was due, so that a stall counts for all who waited (no coordinated
omission).
"""

import argparse
import asyncio
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

BINARY = Path(__file__).resolve().parents[1] / "target/release/throughline"
WORDS = ("garden bread letter window morning train river winter recipe chapter bicycle neighbour ticket coffee music report shoes "
         "market question answer weekend sister budget lesson photo travel summer paper kettle corner story").split()

# The message of a long turn, under the server's limit of 64 KiB.
LONG_BYTES = 60 << 10
# How long each part is that is told after an overload.
AFTER_S = 5


def whose(args, number):
    """Of the load's turn of that number: the user, and which of the user's own turns it is."""
    active = min(args.users, max(1, round(args.rate * args.gap_seconds)))
    place, slot = divmod(number, active)
    session, place = divmod(place + slot % args.session_turns, args.session_turns)
    visit, user = divmod(session * active + slot, args.users)
    return user, visit * args.session_turns + place


def turn(args, number, crowd="user"):
    user, number = whose(args, number)
    chooser = random.Random(user * 1_000_003 + number)
    say = lambda count: " ".join(chooser.choices(WORDS, k=count))
    messages = [{"role": "user", "content": f"Could you help me with the {say(16)}?"},
                {"role": "assistant", "content": f"Of course. Think of the {say(24)}."}]
    return json.dumps({"user_id": f"{crowd}-{user}", "session_id": f"s{number // args.session_turns}", "messages": messages}).encode()


def long_turn(number):
    chooser = random.Random(-1 - number)
    text = " ".join(chooser.choices(WORDS, k=LONG_BYTES // 5))[:LONG_BYTES]
    return json.dumps({"user_id": f"long-{number}", "session_id": "s0", "messages": [{"role": "user", "content": text}]}).encode()


class Connection:
    def __init__(self, port):
        self.port, self.reader, self.writer, self.again_s = port, None, None, 0

    async def post(self, path, body, headers=""):
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        self.writer.write(head.encode() + body)
        answer = await self.reader.readuntil(b"\r\n\r\n")
        length = int(re.search(rb"content-length: (\d+)", answer).group(1))
        await self.reader.readexactly(length)
        again = re.search(rb"retry-after: (\d+)", answer)
        self.again_s = int(again.group(1)) if again else 0
        return int(answer[9:12])


def memory_mb(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text()).group(1)) / 1024


def quantile(values, q):
    return sorted(values)[min(int(q * len(values)), len(values) - 1)] if values else float("nan")


def counted(port):
    """Tokens that the server has computed, and how many of them again, because a window was not held or had moved on."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read()
    return [int(re.search(rb"^throughline_%s_total (\d+)" % name, text, re.MULTILINE).group(1)) for name in (b"tokens", b"recomputed_tokens")]


async def saturate(args, port, seconds):
    """Turns a second of a flood where every connection always has one under way, and how many it was."""
    begun, number, done, refused = time.monotonic(), 0, 0, {}

    async def one():
        nonlocal number, done
        connection = Connection(port)
        while time.monotonic() - begun < seconds:
            mine, number = number, number + 1
            status = await connection.post("/v1/turns", turn(args, mine, "flood"))
            done += status == 200
            if status != 200:
                refused[status] = refused.get(status, 0) + 1
                # As an SDK does: a caller that asks again at once takes from the server the cores that both share.
                await asyncio.sleep(max(connection.again_s, 1))

    await asyncio.gather(*(one() for _ in range(args.connections)))
    return done / (time.monotonic() - begun), number, refused


async def load(args, server, port, rate, seconds, first, crowd="user", headers="", memory=None, body=None):
    """Turns at that rate for that time: [(due, latency, status)]; memory of every minute goes to `memory`, and is told.
    `body` writes the turn of a number, where it is not one of the steady load's."""
    body = body or (lambda number: turn(args, number, crowd))
    done, free = [], asyncio.Queue()
    for _ in range(args.connections):
        free.put_nowait(Connection(port))

    async def one(number, due):
        connection = await free.get()
        try:
            status = await connection.post("/v1/turns", body(number), headers)
        except (OSError, asyncio.IncompleteReadError) as error:
            status, connection = repr(error), Connection(port)
        done.append((due, time.monotonic() - due, status))
        free.put_nowait(connection)

    begun, tasks, told = time.monotonic(), set(), 0
    for number in range(int(rate * seconds)):
        due = begun + number / rate
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        task = asyncio.create_task(one(first + number, due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        if memory is not None and time.monotonic() - begun >= told * 60:
            told += 1
            memory.append(memory_mb(server.pid))
            recent = [latency for due_at, latency, status in done if status == 200 and due_at > time.monotonic() - 60]
            print(f"  {int(time.monotonic() - begun):>5} s  {memory_mb(server.pid):6.0f} MB  turns {len(done):>6}  "
                  f"p50 {1e3 * quantile(recent, .5):.0f} ms  p99 {1e3 * quantile(recent, .99):.0f} ms", flush=True)
    await asyncio.gather(*tasks)
    return done, time.monotonic() - begun


def report(words, done, took):
    good = [latency for _, latency, status in done if status == 200]
    others = {}
    for _, _, status in done:
        if status != 200:
            others[status] = others.get(status, 0) + 1
    print(f"{words}: {len(good)} turns in {took:.0f} s, {len(good) / took:.1f} a second; p50 {1e3 * quantile(good, .5):.0f} ms, "
          f"p99 {1e3 * quantile(good, .99):.0f} ms, worst {1e3 * max(good, default=0):.0f} ms; not kept: {others or 'none'}")


async def steady(args, server, port, folder):
    """The steady load, and how many turns it was."""
    number, memory = int(args.rate * args.minutes * 60), []
    seconds = args.minutes * 60
    ordinary = load(args, server, port, args.rate, seconds, 0, memory=memory)
    long = load(args, server, port, args.long / 60, seconds, 0, body=long_turn)
    (done, took), (long_done, long_took) = await asyncio.gather(ordinary, long)
    report("steady", done, took)
    if args.long:
        report(f"turns of {LONG_BYTES >> 10} KiB beside it", long_done, long_took)
    memory.append(memory_mb(server.pid))
    computed, again = counted(port)
    print(f"  {(computed - again) / number:.0f} tokens a turn, and {again / number:.0f} computed again")
    later = memory[3 * len(memory) // 4:]
    slope = statistics.linear_regression(range(len(later)), later).slope if len(later) > 1 else float("nan")
    size = sum(file.stat().st_size for file in Path(folder).iterdir()) / 1e6
    print(f"  {memory[-1]:.0f} MB at the end, {slope:+.2f} MB a minute over the last quarter; folder {size:.1f} MB")
    return number


async def overload(args, server, port, number):
    """As much as it can do; twice that, by a flood beside the steady load, which goes on from that turn; and the steady load after."""
    capacity, first, refused = await saturate(args, port, args.saturated_seconds)
    print(f"saturated: {args.connections} callers who each wait for an answer get {capacity:.1f} turns a second; not kept: {refused or 'none'}")
    print(f"overload: {2 * capacity:.0f} turns a second, twice that; each waits 2 s at most")
    seconds, patience = args.overload_seconds, "X-Deadline-Ms: 2000\r\n"
    flood = load(args, server, port, max(2 * capacity - args.rate, 0), seconds, first, "flood", patience)
    beside = load(args, server, port, args.rate, seconds, number, headers=patience)
    for words, (done, took) in zip(("overload, the flood", "overload, the steady load beside it"), await asyncio.gather(flood, beside)):
        report(words, done, took)
    number += int(args.rate * seconds)
    for after in range(0, args.after_seconds, AFTER_S):
        done, took = await load(args, server, port, args.rate, AFTER_S, number)
        report(f"{after} to {after + AFTER_S} s after", done, took)
        number += int(args.rate * AFTER_S)


async def run(args, serve, folder):
    server = subprocess.Popen([BINARY, "serve", "--bind", "127.0.0.1:0", "--folder", folder, *serve], stderr=subprocess.PIPE, text=True)
    try:
        for line in server.stderr:
            if found := re.search(r"listening on http://127.0.0.1:(\d+)", line):
                break
        else:
            sys.exit("no server")
        port = int(found.group(1))
        # A server whose log nobody reads would wait for its reader.
        log, reader = [], threading.Thread(target=lambda: log.extend(server.stderr))
        reader.start()
        print(f"{args.users} users, {args.rate} turns a second for {args.minutes} min, sessions of {args.session_turns} turns {args.gap_seconds:.0f} s apart, {memory_mb(server.pid):.0f} MB at the start")
        number = await steady(args, server, port, folder)
        await overload(args, server, port, number)
        server.terminate()
        status = server.wait(60)
        reader.join()
        troubles = [line for line in log if "WARN" in line or "ERROR" in line]
        print(f"stopped with {status}, {len(log)} lines of log, {len(troubles)} of them warnings or errors", *troubles[:20], sep="\n")
    finally:
        server.kill()


def main():
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=8.0, help="turns a second")
    parser.add_argument("--session-turns", type=int, default=6)
    parser.add_argument("--gap-seconds", type=float, default=30.0, help="between two turns of a session")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--long", type=float, default=0.0, help="turns of a long message a minute, beside the others")
    parser.add_argument("--overload-seconds", type=float, default=60.0)
    parser.add_argument("--after-seconds", type=int, default=30)
    parser.add_argument("--saturated-seconds", type=float, default=20.0)
    parser.add_argument("--connections", type=int, default=64)
    args = parser.parse_args(sys.argv[1:cut])
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(args, sys.argv[cut + 1:], folder))


if __name__ == "__main__":
    main()
