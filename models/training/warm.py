"""Heads fitted to the untouched base before fine-tuning (linear probing first: Kumar et al. 2022, arXiv 2202.10054).

Heads that start from nothing spend the first epoch on what a regression finds in seconds, and their early gradients
distort the layers below.
"""

from concurrent.futures import ThreadPoolExecutor

import torch
import torch.nn.functional as F

from loss import labels_of
from model import HEADS
from windows import tensors_of, unit_windows

INVERSE_PENALTY = 5e-4  # of the squared weights; chosen by leave-one-author-out probes, of heads with one weight vector


@torch.no_grad()
def features(model, lower, encoder, units, seed, workers, step_tokens=3000):
    """(normalised hidden states at message ends, their messages) of the units as written."""
    windows = [w for unit in units for w in unit_windows(unit, 0, encoder, [], seed)]
    groups, size = [[]], 0
    for w in windows:
        if size > step_tokens:
            groups.append([])
            size = 0
        groups[-1].append(w)
        size += len(w[0])
    torch.set_num_threads(1)
    with ThreadPoolExecutor(workers) as pool:
        parts = list(pool.map(lambda g: group_features(model, lower, g), groups))
    torch.set_num_threads(workers)
    return torch.cat(parts), [m for w in windows for m in w[2]]


@torch.no_grad()
def group_features(model, lower, group):
    x, ends, lengths = tensors_of(lower, group)
    hidden = model.run(x, model.blk[model.frozen :], lengths, read=ends).float()
    return F.rms_norm(hidden, hidden.shape[-1:], None, model.config.eps)


def start(model, half, lower, encoder, units, weights, seed, workers):
    """Fit the output norm's scale to the channels' spread, then every head, to what `half`, the faster copy, says."""
    x, messages = features(half, lower, encoder, units, seed, workers)
    with torch.no_grad():
        model.output_norm.weight.copy_((1 / x.std(0)).clamp_max(100))
    x = x * model.output_norm.weight.detach()
    for name, head in model.head.items():
        index, y = labels_of(messages, name)
        fit(head, x[index], y, weights[name], HEADS[name])


def fit(head, x, y, weights, levels):
    """Penalised logistic regressions by L-BFGS; features are centred, and the centre goes into the biases."""
    centre = x.mean(0)
    above = (y[:, None] > torch.arange(levels - 1)).float()
    optim = torch.optim.LBFGS(head.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optim.zero_grad()
        per = F.binary_cross_entropy_with_logits(head(x - centre), above, reduction="none").mean(1)
        value = (weights[y] * per).sum() + head.weight.square().sum() / (2 * INVERSE_PENALTY)
        value.backward()
        return value

    optim.step(closure)
    optim.zero_grad(set_to_none=True)
    with torch.no_grad():
        head.bias -= head.weight @ centre
