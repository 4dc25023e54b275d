"""Losses: class-weighted ordinal cross-entropy per message, and pairwise ranking inside a unit."""

import torch
import torch.nn.functional as F

from corpus import ARCS, target
from model import HEADS

HEAD_WEIGHT = {"harassment": 1.0, "delusion": 1.0, "stance": 1.0, "imminent": 0.5, "harassment_case": 0.5,
               "delusion_case": 0.5}
NEAR_ONSET_WEIGHT = 2.0
PAIR_WEIGHT = 1.0


def level_weights(units, power=0.5, most=6.0):
    """Per head and level (mean count / count)^power, so that rare levels are heard; at most `most`."""
    out = {}
    for head, levels in HEADS.items():
        counts = torch.ones(levels)
        for unit in units:
            for h in unit.histories:
                for m in h.messages():
                    if (y := target(m, head)) is not None:
                        counts[y] += 1
        out[head] = ((counts.sum() / levels / counts) ** power).clamp_max(most)
    return out


def priors(units):
    """Per head log-odds of P(y > k): where the biases start."""
    out = {}
    for head, levels in HEADS.items():
        labels = [y for u in units for h in u.histories for m in h.messages() if (y := target(m, head)) is not None]
        share = torch.tensor([(sum(y > k for y in labels) + 1) / (len(labels) + 2) for k in range(levels - 1)])
        out[head] = torch.logit(share)
    return out


def weight_offsets(units, weights):
    """Per head what class weights add to the log-odds of P(y > k): log of the mean weight above over that below.

    A loss weighted by class fits the odds of a population in which classes are that much more common; taking this
    off the biases gives back the odds of the labels as they are (Elkan 2001, theorem 2).
    """
    out = {}
    for head, levels in HEADS.items():
        labels = [y for u in units for h in u.histories for m in h.messages() if (y := target(m, head)) is not None]
        w, y = weights[head][labels], torch.tensor(labels)
        out[head] = torch.stack([torch.log(w[y > k].mean() / w[y <= k].mean()) for k in range(levels - 1)])
    return out


def labels_of(messages, head):
    """(indices of labelled messages, their levels)."""
    known = [(i, y) for i, m in enumerate(messages) if (y := target(m, head)) is not None]
    return [i for i, _ in known], torch.tensor([y for _, y in known], dtype=torch.long)


def message_loss(logits, messages, weights):
    """(sum over heads and labelled messages of the weighted loss, number of labels of messages).

    The loss of a label is the binary cross-entropy of P(y > k), the mean over k.
    """
    total, count = torch.zeros(()), 0
    for head, levels in HEADS.items():
        index, y = labels_of(messages, head)
        if not index:
            continue
        above = (y[:, None] > torch.arange(levels - 1)).float()
        per = F.binary_cross_entropy_with_logits(logits[head][index], above, reduction="none").mean(1)
        if head.endswith("_case"):
            per = per * torch.tensor([NEAR_ONSET_WEIGHT if messages[i].near_onset else 1.0 for i in index])
        total = total + HEAD_WEIGHT[head] * (weights[head][y] * per).sum()
        count += len(index)
    return total, count


def pooled(logits, messages, head):
    """A soft maximum over user messages of the mean cumulative logit: a differentiable history score."""
    users = [i for i, m in enumerate(messages) if m.role == "user"]
    return torch.logsumexp(logits[head][users].mean(1), 0)


def twin_loss(pair):
    """An original that holds its evidence must score above its twin: RankNet (Burges et al. 2005) on pooled scores."""
    (logits, messages), (twin_logits, twin_messages) = pair
    total = torch.zeros(())
    for arc in ARCS:
        if max((getattr(m, arc) or 0) for m in messages) >= 2:
            for head in (arc, f"{arc}_case"):
                gap = pooled(logits, messages, head) - pooled(twin_logits, twin_messages, head)
                total = total + 0.5 * F.softplus(-gap)
    return total


def aligned_loss(members):
    """Messages at one place of minimal pairs whose labels differ must be ordered as their labels are."""
    terms = []
    for a in range(len(members)):
        for b in range(a + 1, len(members)):
            (la, ma), (lb, mb) = members[a], members[b]
            for i in range(min(len(ma), len(mb))):
                for head in ("harassment", "delusion", "stance", "imminent"):
                    ya, yb = target(ma[i], head), target(mb[i], head)
                    if ya is not None and yb is not None and ya != yb:
                        between = slice(min(ya, yb), max(ya, yb))  # the thresholds that part the two levels
                        gap = (la[head][i] - lb[head][i])[between].mean()
                        terms.append(F.softplus(-gap if ya > yb else gap))
    return torch.stack(terms).sum() if terms else torch.zeros(())


def unit_loss(unit, members, weights):
    """(loss summed over the unit, labelled messages); `members`: (logits, messages) of each of its windows."""
    total, count = torch.zeros(()), 0
    for logits, messages in members:
        part, n = message_loss(logits, messages, weights)
        total, count = total + part, count + n
    for original, twin in unit.twins:
        total = total + PAIR_WEIGHT * 4 * twin_loss((members[original], members[twin]))
    if unit.aligned:
        total = total + PAIR_WEIGHT * aligned_loss(members)
    return total, count
