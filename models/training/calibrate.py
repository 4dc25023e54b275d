"""Calibration of the heads on the development histories: one slope a head and one shift a threshold (Platt 1999).

P(y > k) = σ(a·z_k + c_k) with the logits z_k of the training. A loss weighted by class fits the odds of a population in
which classes are more common than they are; `loss.weight_offsets` says by how much, and that is where the shifts start
and what they are drawn to: with few positives to fit, a head keeps that correction and a slope of 1.
"""

import torch
import torch.nn.functional as F

import loss
from model import HEADS

BINS = 15


def head_rows(found, histories, head):
    """(logits (messages, K-1), whether each label is above k (messages, K-1)) of all labelled messages.

    Open cases count as open whatever a window shows of them, unlike in training: what is calibrated is what the program
    will say.
    """
    logits, levels = [], []
    for h in histories:
        index, y = loss.labels_of(h.messages(), head)
        logits.append(found[h.id][head][index])
        levels.append(y)
    y = torch.cat(levels)
    return torch.cat(logits), (y[:, None] > torch.arange(HEADS[head] - 1)).float()


def fit(logits, above, offsets, steps=200):
    """(slope, shifts): the greatest posterior under standard normal priors of ln(slope) around 0 and shifts around −offsets.

    The priors weigh as much as a few messages. Newton-like steps (L-BFGS) on at most four numbers.
    """
    log_slope = torch.zeros(1, requires_grad=True)
    shifts = (-offsets).clone().requires_grad_(True)
    optimiser = torch.optim.LBFGS([log_slope, shifts], max_iter=steps, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        value = F.binary_cross_entropy_with_logits(log_slope.exp() * logits + shifts, above, reduction="sum")
        value = value + 0.5 * (log_slope**2).sum() + 0.5 * ((shifts + offsets) ** 2).sum()
        value.backward()
        return value

    optimiser.step(closure)
    return log_slope.exp().item(), shifts.detach()


@torch.no_grad()
def calibration_error(probabilities, truth):
    """Expected calibration error over equally wide bins (Naeini et al. 2015)."""
    bins = (probabilities * BINS).long().clamp_max(BINS - 1)
    total = 0.0
    for b in range(BINS):
        here = bins == b
        if here.any():
            total += (probabilities[here].mean() - truth[here].mean()).abs().item() * here.sum().item()
    return total / len(truth)


@torch.enable_grad()
def calibrate(model, found, histories, offsets):
    """Moves the biases of the model's heads; ({head: temperature}, {head: figures before and after})."""
    temperatures, report = {}, {}
    for head in HEADS:
        logits, above = head_rows(found, histories, head)
        slope, shifts = fit(logits, above, offsets[head])
        with torch.no_grad():
            model.head[head].bias += shifts / slope
        temperatures[head] = round(1 / slope, 4)
        middle = (HEADS[head] - 1) // 2
        raw, fitted = torch.sigmoid(logits[:, middle]), torch.sigmoid(slope * logits + shifts)[:, middle]
        truth = above[:, middle]
        report[head] = {"messages": len(truth), "positive": int(truth.sum()), "slope": round(slope, 3),
                        "shifts": [round(v, 3) for v in shifts.tolist()],
                        "ece_before": round(calibration_error(raw, truth), 4),
                        "ece_after": round(calibration_error(fitted, truth), 4)}
    return temperatures, report
