#!/usr/bin/env python3
"""Prefill of one model by throughline and by its peers, side by side in one run.

    cargo build --release
    pip install torch transformers gguf openvino-genai        # peers that are missing are left out, and said so
    python3 benches/compare/prefill.py MODEL.gguf [--threads 2] [--shapes 1x512 1x2048 8x512] [--rounds 5]

MODEL.gguf is a Llama model that all of them read, such as SmolLM2-135M-Instruct. Every round runs every engine once on every
shape, one after another, so that what else the machine does falls on all alike; the table gives medians in tokens a second
and ratios to throughline's fastest kernel. Token ids are fresh and random in every call, so that no peer finds a prefix of its
own; each computes the last token's logits or hidden state. One process an engine, all on the same threads. candle's operations take
minutes at 8x512: --engines leaves them out.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VOCAB = 40_000  # ids below it are words in every Llama vocabulary of the size of SmolLM2's


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--shapes", nargs="+", default=["1x512", "1x2048", "8x512"])
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--engines", nargs="+", help="only these")
    p.add_argument("--serve", help=argparse.SUPPRESS)  # one peer, in a process of its own
    return p.parse_args()


def sizes(shape):
    return tuple(int(n) for n in shape.split("x"))


def ours(args, kernel, shape):
    """Tokens a second of `throughline model speed`, one repeat after one that is not counted."""
    command = [ROOT / "target/release/throughline", "model", "speed", "--model", args.model, "--kernel", kernel, "--shape", shape,
               "--threads", str(args.threads), "--repeat", "1", "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["shapes"][0]["tokens_per_second"]


def kernels(args):
    """The kernels that this processor has, by asking."""
    found = []
    for kernel in ("avx512-bf16", "avx512", "avx2", "neon", "candle"):
        command = [ROOT / "target/release/throughline", "model", "speed", "--kernel", kernel, "--shape", "1x16", "--repeat", "1"]
        if subprocess.run(command, capture_output=True).returncode == 0:
            found.append(kernel)
    return found


def torch_peer(args, dtype):
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(args.threads)
    path = Path(args.model)
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=getattr(torch, dtype),
                                                 attn_implementation="sdpa").eval()

    def prefill(sequences, tokens):
        ids = torch.randint(VOCAB, (sequences, tokens))
        with torch.inference_mode():
            model(ids, use_cache=False, logits_to_keep=1)

    return prefill


def openvino_peer(args):
    import numpy
    import openvino
    import openvino_genai

    pipe = openvino_genai.LLMPipeline(args.model, "CPU", INFERENCE_NUM_THREADS=args.threads, ATTENTION_BACKEND="SDPA")
    settings = openvino_genai.GenerationConfig(max_new_tokens=1, do_sample=False, ignore_eos=True)

    def prefill(sequences, tokens):
        ids = numpy.random.randint(VOCAB, size=(sequences, tokens), dtype=numpy.int64)
        mask = numpy.ones_like(ids)
        pipe.generate(openvino_genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(mask)), settings)

    return prefill


PEERS = {
    "PyTorch bf16": lambda args: torch_peer(args, "bfloat16"),
    "PyTorch f32": lambda args: torch_peer(args, "float32"),
    "OpenVINO GenAI": openvino_peer,
}


def serve(args):
    """One peer: a shape a line in, tokens a second a line out."""
    import time

    prefill = PEERS[args.serve](args)
    print("ready", flush=True)
    warm = set()
    for line in sys.stdin:
        sequences, tokens = sizes(line.strip())
        if line not in warm:
            warm.add(line)
            prefill(sequences, tokens)
        start = time.perf_counter()
        prefill(sequences, tokens)
        print(sequences * tokens / (time.perf_counter() - start), flush=True)


class Peer:
    """A peer's process."""

    def __init__(self, args, name):
        self.name = name
        command = [sys.executable, __file__, args.model, "--threads", str(args.threads), "--serve", name]
        environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads)}
        self.errors = tempfile.TemporaryFile("w+")  # a pipe that nobody reads would stop a peer that warns much
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True,
                                        env=environment)

    def read(self):
        """The next line that is an answer; None when the process is over."""
        for line in self.process.stdout:
            if line.strip() == "ready" or line[0].isdigit():
                return line.strip()
        return None

    def rate(self, shape):
        self.process.stdin.write(shape + "\n")
        self.process.stdin.flush()
        answer = self.read()
        return float(answer) if answer else None


def started(args):
    peers = []
    for name in PEERS:
        if args.engines and name not in args.engines:
            continue
        peer = Peer(args, name)
        if peer.read() is None:
            peer.errors.seek(0)
            why = peer.errors.read().strip().splitlines()
            print(f"left out: {name}: {why[-1] if why else 'ended'}", file=sys.stderr)
        else:
            peers.append(peer)
    return peers


def main():
    args = arguments()
    if args.serve:
        return serve(args)
    own = [k for k in kernels(args) if not args.engines or k in args.engines]
    peers = started(args)
    rates = {}
    for number in range(args.rounds):
        for shape in args.shapes:
            print(f"round {number + 1} of {args.rounds}, {shape}", file=sys.stderr, flush=True)
            for kernel in own:
                rates.setdefault((f"throughline {kernel}", shape), []).append(ours(args, kernel, shape))
            for peer in peers:
                if (rate := peer.rate(shape)) is not None:
                    rates.setdefault((peer.name, shape), []).append(rate)
    first = f"throughline {own[0]}"
    print(f"{'tokens/s (ratio to ' + first + ')':44}" + "".join(f"{shape:>20}" for shape in args.shapes))
    for name in dict.fromkeys(name for name, _ in rates):
        cells = []
        for shape in args.shapes:
            if (name, shape) in rates:
                pairs = zip(rates[name, shape], rates[first, shape])
                ratio = statistics.median(a / b for a, b in pairs)
                cells.append(f"{statistics.median(rates[name, shape]):.0f} ({ratio:.2f})")
            else:
                cells.append("-")
        print(f"{name:44}" + "".join(f"{cell:>20}" for cell in cells))


if __name__ == "__main__":
    main()
