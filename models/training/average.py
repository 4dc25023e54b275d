"""The mean of the weights of several checkpoints of one shape (Wortsman et al. 2022, arXiv:2203.05482), for `finish.py`.

    python models/training/average.py RUN1/last.pt RUN2/last.pt --out MEAN/last.pt
"""

import argparse

import torch


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


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("checkpoints", nargs="+")
    p.add_argument("--out", required=True)
    args = p.parse_args()
    torch.save(mean([torch.load(path, weights_only=False, mmap=True) for path in args.checkpoints]), args.out)


if __name__ == "__main__":
    main()
