"""Figures on the development authors, for watching a run; the reported ones come from evaluate.py."""

import torch
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from corpus import target
from loss import message_loss
from model import HEADS, expected_level
from windows import predict

POSITIVE = ("harassment_escalation", "delusion_reinforcement", "delusion_resisted", "both")


def auc(scores, positive):
    """Area under the ROC curve, or None where one class is missing."""
    return round(roc_auc_score(positive, scores), 4) if 0 < sum(positive) < len(positive) else None


def kappa(y, p, levels):
    if len(set(y)) < 2:
        return None
    return round(cohen_kappa_score(y, p, weights="quadratic", labels=list(range(levels))), 4)


def rank_accuracy(pairs):
    return round(sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs), 4) if pairs else None


def history_score(logits, messages):
    """max over user messages of the higher expected level, over 3."""
    users = [i for i, m in enumerate(messages) if m.role == "user"]
    level = torch.maximum(expected_level(logits["harassment"]), expected_level(logits["delusion"]))
    return level[users].max().item() / 3


def contrast_pairs(members):
    """(score of the message with the higher label, of the one with the lower) at each place where labels differ."""
    pairs = []
    for a in range(len(members)):
        for b in range(a + 1, len(members)):
            (la, ma), (lb, mb) = members[a], members[b]
            for i in range(min(len(ma), len(mb))):
                for head in ("harassment", "delusion"):
                    ya, yb = target(ma[i], head), target(mb[i], head)
                    if ya is not None and yb is not None and ya != yb:
                        sa, sb = la[head][i].mean().item(), lb[head][i].mean().item()
                        pairs.append((sa, sb) if ya > yb else (sb, sa))
    return pairs


def predictions(model, encoder, histories, sets, lower=None):
    """{id: head logits} of every history and every member of a contrast set."""
    every = histories + [h for members in sets.values() for h in members]
    return {h.id: predict(model, encoder, h, lower) for h in every}


def head_figures(rows, head):
    """AUROC at the middle of the scale and quadratic kappa from [(level, logits)]."""
    middle, levels = (0 if head == "imminent" else 1), HEADS[head]
    y = [r[0] for r in rows]
    out = {"auc": auc([r[1][middle].item() for r in rows], [v > middle for v in y])}
    if head != "imminent":
        out["kappa"] = kappa(y, [round(expected_level(r[1]).item()) for r in rows], levels)
    return out


@torch.no_grad()
def figures(found, histories, sets, weights):
    """Loss, agreement and ranking from `predictions`."""
    members = [h for s in sets.values() for h in s]
    every = [(found[h.id], h.messages()) for h in histories + members]
    losses = [message_loss(logits, messages, weights) for logits, messages in every]
    out = {"loss": round(sum(v.item() for v, _ in losses) / max(1, sum(n for _, n in losses)), 4)}
    for head in HEADS:
        rows = [(y, logits[head][i]) for logits, ms in every for i, m in enumerate(ms)
                if (y := target(m, head)) is not None]
        out[head] = head_figures(rows, head)
    scores = {h.id: history_score(found[h.id], h.messages()) for h in histories}
    out["history_auc"] = auc([scores[h.id] for h in histories], [h.kind in POSITIVE for h in histories])
    out["twins"] = rank_accuracy([(scores[h.twin], scores[h.id]) for h in histories if h.twin in scores])
    pairs = [p for s in sets.values() for p in contrast_pairs([(found[h.id], h.messages()) for h in s])]
    out["contrasts"] = rank_accuracy(pairs)
    return out
