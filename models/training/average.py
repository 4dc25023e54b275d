"""The mean of the weights of several checkpoints of one shape (Wortsman et al. 2022, arXiv:2203.05482), for `finish.py`.

    python models/training/average.py RUN1/last.pt RUN2/last.pt --out MEAN/last.pt

One that is named twice counts twice. An exported .gguf of the same shape may stand among them.
"""

import argparse

import torch

import export
from model import Guard


def mean(checkpoints):
    """A checkpoint without an optimiser's state: one cannot be trained on from a mean of two."""
    models = [checkpoint["model"] for checkpoint in checkpoints]
    last = checkpoints[-1]
    if any(model.keys() != last["model"].keys() for model in models):
        raise ValueError("the checkpoints are of different shapes")

    def of(name, tensor):
        if not tensor.is_floating_point():
            return tensor
        return (sum(model[name].float() for model in models) / len(models)).to(tensor.dtype)

    kept = {key: last[key] for key in ("tokenizer", "config", "frozen", "clock")}
    return {**kept, "model": {name: of(name, tensor) for name, tensor in last["model"].items()}}


def read(path, like):
    """A checkpoint; of an exported file its weights, and the rest as in `like`."""
    if not path.endswith(".gguf"):
        return torch.load(path, weights_only=False, mmap=True)
    model = Guard(like["config"], like["frozen"])
    export.load_quantised(path, model)
    return {**like, "model": model.state_dict()}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("checkpoints", nargs="+")
    p.add_argument("--out", required=True)
    args = p.parse_args()
    like = next((read(path, None) for path in args.checkpoints if not path.endswith(".gguf")), None)
    if like is None:
        p.error("a mean of exported files alone has no tokenizer to go on with: name a checkpoint, too")
    torch.save(mean([read(path, like) for path in args.checkpoints]), args.out)


if __name__ == "__main__":
    main()
