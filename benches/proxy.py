"""What judging adds to a streamed reply: time to the first of its text, time for each token, time to the end; beside the upstream alone.

    cargo build --release --features outbound
    python3 benches/proxy.py [--replies 40] [--tokens 200] [--rate 50] [-- SERVE OPTIONS]

An upstream in this process streams replies of so many tokens at a steady rate. Each is asked for directly and then through
`target/release/throughline serve --upstream`, in turn, by one user after another in histories that grow. Everything shares the machine's cores.
The hold-back of a token is from the moment the upstream sent it to the moment it was read.
"""

import argparse
import asyncio
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BINARY = Path(__file__).resolve().parents[1] / "target/release/throughline"
WORDS = ("garden bread letter window morning train river winter recipe chapter bicycle neighbour ticket coffee music report shoes "
         "market question answer weekend sister budget lesson photo travel summer paper kettle corner story").split()
SENT = {}


def quantile(values, q):
    return sorted(values)[min(int(q * len(values)), len(values) - 1)] if values else float("nan")


async def upstream(args, reader, writer):
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(re.search(rb"content-length: (\d+)", head, re.I).group(1))
    body = json.loads(await reader.readexactly(length))
    number = body["seed"]
    chooser = random.Random(number)
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
    sent = SENT[number] = []
    begun = time.perf_counter()
    for token in range(args.tokens):
        await asyncio.sleep(max(0, begun + token / args.rate - time.perf_counter()))
        chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
                 "choices": [{"index": 0, "delta": {"content": chooser.choice(WORDS) + " "}, "finish_reason": None}]}
        sent.append(time.perf_counter())
        writer.write(f"data: {json.dumps(chunk)}\n\n".encode())
        await writer.drain()
    writer.write(b"data: [DONE]\n\n")
    writer.close()


async def ask(port, number, user, messages):
    """When it was asked, and when each token of the reply was read; the reply."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps({"model": "m", "stream": True, "seed": number, "user": user, "messages": messages}).encode()
    begun = time.perf_counter()
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
                 + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    read, text, rest = [], "", b""
    while data := await reader.read(65536):
        now = time.perf_counter()
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"data: {"):
                choice = json.loads(line[6:])["choices"][0]
                assert choice["finish_reason"] is None, "a reply was blocked: choose other words"
                text += choice["delta"]["content"]
                read.append(now)
    writer.close()
    return begun, read, time.perf_counter(), text


async def run(args):
    listener = await asyncio.start_server(lambda r, w: upstream(args, r, w), "127.0.0.1", 0)
    there = listener.sockets[0].getsockname()[1]
    figures = {"directly": [], "through the proxy": []}
    with tempfile.TemporaryDirectory() as folder:
        command = [BINARY, "serve", "--bind", "127.0.0.1:0", "--folder", folder, "--upstream", f"http://127.0.0.1:{there}/v1", *args.serve]
        server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            here = next(int(found.group(1)) for line in server.stderr if (found := re.search(r"listening on http://[^:]+:(\d+)", line)))
            histories = {}
            for number in range(args.replies):
                user = f"user-{number % args.users}"
                messages = histories.setdefault(user, [])
                question = " ".join(random.Random(-1 - number).choices(WORDS, k=20))
                messages.append({"role": "user", "content": f"Could you help me with the {question}?"})
                for name, port in (("directly", there), ("through the proxy", here)):
                    begun, read, ended, text = await ask(port, number, user, messages)
                    sent = SENT.pop(number)
                    assert len(sent) == len(read) == args.tokens
                    figures[name].append((read[0] - begun, ended - begun, [b - a for a, b in zip(sent, read)]))
                messages.append({"role": "assistant", "content": text})
        finally:
            server.terminate()
            server.wait()
    for name, replies in figures.items():
        ms = lambda values, q: f"{1000 * quantile(values, q):7.1f}"
        first, end, held = [r[0] for r in replies], [r[1] for r in replies], [t for r in replies for t in r[2]]
        print(f"{name:18} ms, median and 99%: first text {ms(first, .5)} {ms(first, .99)}   held a token {ms(held, .5)} {ms(held, .99)}"
              f"   whole reply {ms(end, .5)} {ms(end, .99)}")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--replies", type=int, default=40)
    arguments.add_argument("--users", type=int, default=8)
    arguments.add_argument("--tokens", type=int, default=200)
    arguments.add_argument("--rate", type=float, default=50, help="tokens a second of the upstream")
    arguments.add_argument("serve", nargs="*", help="options of serve")
    args = arguments.parse_args()
    if not BINARY.exists():
        sys.exit(f"{BINARY} is not there; hint: cargo build --release --features outbound")
    asyncio.run(run(args))


if __name__ == "__main__":
    main()
