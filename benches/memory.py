#!/usr/bin/env python3
"""Peak memory of `throughline score` against the size of its input (standard library only, Unix).

    cargo build --release && python3 benches/memory.py [--megabytes 64 256 1024]

Writes native JSON lines of the sizes asked for into a temporary folder (20 sessions a user, in shuffled
order, so that every user's sessions lie all over the file), scores each with the tiny random model of
tests/golden/tiny-one-word, and prints the peak resident memory of each run and the slope between the sizes.
"""

import argparse
import json
import os
import random
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORD_LETTERS = 400  # a word is one token of the tiny model
SESSIONS_PER_USER, MESSAGES_PER_SESSION, WORDS_PER_MESSAGE = 20, 8, 4


def session(user, number, rng):
    word = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=WORD_LETTERS))
    content = " ".join([word] * WORDS_PER_MESSAGE)
    messages = [{"role": ("user", "assistant")[i % 2], "content": content} for i in range(MESSAGES_PER_SESSION)]
    return json.dumps({"user_id": f"user-{user}", "session_id": f"s{number}",
                       "started_at": f"2026-{1 + number // 2:02}-{1 + number % 28:02}T10:00:00Z", "messages": messages})


def write(path, megabytes):
    """Sessions until the size is reached; users in shuffled order."""
    rng = random.Random(1)
    line_bytes = len(session(0, 0, rng)) + 1
    users = max(1, round(megabytes * 1e6 / line_bytes / SESSIONS_PER_USER))
    order = [(user, number) for user in range(users) for number in range(SESSIONS_PER_USER)]
    rng.shuffle(order)
    with open(path, "w", encoding="ascii") as file:
        for user, number in order:
            file.write(session(user, number, rng) + "\n")
    return users


def peak_megabytes(command):
    """Peak resident memory of one run of a command; its output is thrown away."""
    pid = os.fork()
    if pid == 0:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.execv(command[0], command)
    _, status, usage = os.wait4(pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"{' '.join(command)} failed")
    return usage.ru_maxrss * 1024 / 1e6, usage.ru_utime + usage.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--binary", default=ROOT / "target/release/throughline")
    arguments = parser.parse_args()
    model = ROOT / "tests/golden/tiny-one-word/model.gguf"
    points = []
    with tempfile.TemporaryDirectory() as folder:
        for megabytes in arguments.megabytes:
            path = Path(folder) / "chats.jsonl"
            users = write(path, megabytes)
            size = path.stat().st_size / 1e6
            peak, cpu = peak_megabytes([str(arguments.binary), "score", str(path), "--model", str(model), "--output",
                                        str(Path(folder) / "scores.jsonl"), "--quiet"])
            points.append((size, peak))
            print(f"{size:8.0f} MB in, {users:6} users: peak {peak:7.1f} MB, {cpu:6.1f} s of CPU", flush=True)
    (size_0, peak_0), (size_1, peak_1) = points[0], points[-1]
    if size_1 > size_0:
        print(f"slope: {1000 * (peak_1 - peak_0) / (size_1 - size_0):.1f} kB of memory a MB of input")


if __name__ == "__main__":
    main()
