"""What the comparisons of this folder share: peers, each in a process of its own, and where llama.cpp comes from.

llama.cpp is built from source by pip, once for all that the processor has (AVX-512, with BF16 and VNNI where it has them) and once
for AVX2 alone (AVX, AVX2, FMA, F16C, BMI2: what is on where nothing is said), the second into a folder of its own:

    CMAKE_ARGS="-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF" pip install --no-binary llama-cpp-python llama-cpp-python
    CMAKE_ARGS="-DGGML_NATIVE=OFF -DLLAVA_BUILD=OFF" pip install --no-binary llama-cpp-python --no-deps --no-cache-dir \\
        --target avx2 llama-cpp-python

`--llama-build avx2=avx2` adds the second to a comparison. pip keeps what it built, whatever the flags were: hence --no-cache-dir.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BINARY = ROOT / "target/release/throughline"


class Peer:
    """A peer's process: it says that it is ready, and then answers every line with a number."""

    def __init__(self, name, command, threads, folder=None):
        self.name = name
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        if folder is not None:
            environment["PYTHONPATH"] = str(Path(folder).resolve())
        self.errors = tempfile.TemporaryFile("w+")  # a pipe that nobody reads would stop a peer that warns much
        self.process = subprocess.Popen([sys.executable, *map(str, command)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.errors, text=True, env=environment)

    def read(self):
        """The next line that is an answer; None when the process is over."""
        for line in self.process.stdout:
            if line.strip() == "ready" or line[0].isdigit():
                return line.strip()
        return None

    def ask(self, question):
        """The number that is answered; None when there is none, and it is said why."""
        try:
            self.process.stdin.write(f"{question}\n")
            self.process.stdin.flush()
            answer = self.read()
        except BrokenPipeError:
            answer = None
        if answer is None:
            print(f"left out: {self.name}, asked for {question}: {self.why()}", file=sys.stderr)
            return None
        return float(answer)

    def why(self):
        """The last thing that it complained of."""
        self.errors.seek(0)
        lines = self.errors.read().strip().splitlines()
        return lines[-1] if lines else "ended"


def serve(answer):
    """The other end: a question a line, its answer a line."""
    print("ready", flush=True)
    for line in sys.stdin:
        print(answer(line.strip()), flush=True)


def add_arguments(parser):
    """What every comparison can be asked."""
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--engines", nargs="+", help="only those whose names begin so")
    parser.add_argument("--llama-build", nargs="+", default=[], metavar="NAME=FOLDER", help="further builds of llama-cpp-python")
    parser.add_argument("--llama-model", nargs="+", default=[], metavar="FILE", help="the same weights, read by llama.cpp alone")
    parser.add_argument("--serve", help=argparse.SUPPRESS)  # one peer, in a process of its own


def wanted(args, name):
    return not args.engines or any(name.startswith(engine) for engine in args.engines)


def named(args, plain):
    """(name, which, model, folder) of every peer: the plain ones' {name: which}, and llama.cpp's builds by its files, with its flash
    attention and without: which is the faster depends on the build."""
    found = [(name, which, args.model, None) for name, which in plain.items()]
    builds = [("", None)] + [(f" {build.split('=')[0]}", build.split("=", 1)[1]) for build in args.llama_build]
    for build, folder in builds:
        for model in [args.model, *args.llama_model]:
            of = f", {Path(model).stem}" if args.llama_model else ""
            found.append((f"llama.cpp{build}{of}", "llama:flash", model, folder))
            found.append((f"llama.cpp{build}{of}, no flash", "llama:plain", model, folder))
    return [peer for peer in found if wanted(args, peer[0])]


def started(args, plain, command):
    """The peers that are there; `command(which, model)` starts one. Of those that are missing it is said why."""
    peers = []
    for name, which, model, folder in named(args, plain):
        peer = Peer(name, command(which, model), args.threads, folder)
        if peer.read() is None:
            print(f"left out: {name}: {peer.why()}", file=sys.stderr)
        else:
            peers.append(peer)
    return peers


def torch_model(path, dtype, threads):
    """The model by transformers, its weights plain matrices of that type: newer versions leave some files' packed, and slow."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(threads)
    path, dtype = Path(path), getattr(torch, dtype)
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=dtype, attn_implementation="sdpa").eval()
    linear = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    if not linear or any(module.weight.dtype != dtype or type(module) is not torch.nn.Linear for module in linear):
        raise RuntimeError(f"transformers did not widen the weights to {dtype}")
    return model
