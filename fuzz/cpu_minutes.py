"""Runs every fuzz target for so many minutes of processor time each, from the seeds, and says what was found.

    cargo +nightly fuzz build --codegen-units 16
    python3 fuzz/cpu_minutes.py [--minutes 10] [--jobs 2] [--binaries fuzz/target/x86_64-unknown-linux-gnu/release] [TARGET …]

Corpora are kept in fuzz/corpus, finds in fuzz/artifacts; a second run goes on from both. Exit code 1 when something was found.
"""

import argparse
import concurrent.futures
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FUZZ = Path(__file__).resolve().parent
DICTIONARIES = {
    "transcripts": "transcripts", "labels": "toml", "scores": "json", "policy": "toml", "categories": "toml", "access": "toml", "gguf": "weights",
    "safetensors": "weights", "model_json": "json", "template": "jinja", "chat": "chat", "server": "json", "settings": "toml", "upstream": "json",
}
LONG = {"gguf", "safetensors", "transcripts"}
# As cargo-fuzz: SQLite's one file has two tables of one name.
ASAN = "detect_odr_violation=0"
# A part of a run, in seconds of the clock: processor time is counted between parts.
PART_S = 120


def run(target, args, log):
    """Processor seconds, executions, edges reached, and whether something was found."""
    corpus, artifacts = FUZZ / "corpus" / target, FUZZ / "artifacts" / target
    corpus.mkdir(parents=True, exist_ok=True)
    artifacts.mkdir(parents=True, exist_ok=True)
    command = [args.binaries / target, corpus, FUZZ / "seeds" / target, "-timeout=20", "-rss_limit_mb=3072", "-print_final_stats=1",
               f"-max_len={16384 if target in LONG else 4096}", f"-artifact_prefix={artifacts}/"]
    if target in DICTIONARIES:
        command.append(f"-dict={FUZZ / 'dictionaries' / (DICTIONARIES[target] + '.dict')}")
    seconds, executed, edges = 0.0, 0, 0
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as scratch:
        while seconds < args.minutes * 60:
            left = max(1, min(PART_S, int(args.minutes * 60 - seconds) + 1))
            with tempfile.TemporaryFile("w+b") as out:
                child = subprocess.Popen([*command, f"-max_total_time={left}"], stdout=out, stderr=subprocess.STDOUT,
                                         env={**os.environ, "TMPDIR": scratch, "ASAN_OPTIONS": ASAN})
                _, status, usage = os.wait4(child.pid, 0)
                out.seek(0)
                text = out.read().decode(errors="replace")
            seconds += usage.ru_utime + usage.ru_stime
            executed += sum(int(count) for count in re.findall(r"number_of_executed_units: (\d+)", text))
            edges = max([edges, *(int(count) for count in re.findall(r"cov: (\d+)", text))])
            if status != 0:
                log.write(f"--- {target}\n{text[-6000:]}\n")
                log.flush()
                return seconds, executed, edges, True
    return seconds, executed, edges, False


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--binaries", type=Path, default=FUZZ / "target/x86_64-unknown-linux-gnu/release")
    parser.add_argument("--log", type=Path, default=FUZZ / "artifacts/log.txt", help="the end of what a target said that found something")
    parser.add_argument("targets", nargs="*", default=sorted(path.stem for path in (FUZZ / "fuzz_targets").glob("*.rs")))
    args = parser.parse_args()
    args.log.parent.mkdir(parents=True, exist_ok=True)
    found = False
    with args.log.open("a") as log, concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        began = time.monotonic()
        runs = {pool.submit(run, target, args, log): target for target in args.targets}
        for done in concurrent.futures.as_completed(runs):
            seconds, executed, edges, broke = done.result()
            found |= broke
            print(f"{runs[done]:12} {seconds / 60:5.1f} CPU-min  {executed:>10} runs  {edges:>6} edges  {'FOUND SOMETHING' if broke else 'nothing found'}"
                  f"  ({(time.monotonic() - began) / 60:.0f} min)", flush=True)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
