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
    return round(cohen_kappa_score(y, p, weights="quadratic", labels=list(range(levels))), 4) if len(set(y)) > 1 else None


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


@torch.no_grad()
def figures(model, encoder, histories, sets, weights, lower=None):
    """Loss, agreement and ranking on histories and on contrast sets."""
    scores, every, total, count = {}, [], 0.0, 0
    for h in histories:
        logits = predict(model, encoder, h, lower)
        scores[h.id] = history_score(logits, h.messages())
        every.append((logits, h.messages()))
    pairs = []
    for members in sets.values():
        results = [(predict(model, encoder, h, lower), h.messages()) for h in members]
        pairs += contrast_pairs(results)
        every += results
    for logits, messages in every:
        value, n = message_loss(logits, messages, weights)
        total, count = total + value.item(), count + n
    out = {"loss": round(total / max(1, count), 4)}
    for head, levels in HEADS.items():
        rows = [(y, x[i]) for logits, ms in every for x in [logits[head]] for i, m in enumerate(ms)
                if (y := target(m, head)) is not None]
        y = [r[0] for r in rows]
        middle = 0 if head == "imminent" else 1
        out[head] = {"auc": auc([r[1][middle].item() for r in rows], [v > middle for v in y])}
        if head != "imminent":
            out[head]["kappa"] = kappa(y, [round(expected_level(r[1]).item()) for r in rows], levels)
    out["history_auc"] = auc([scores[h.id] for h in histories], [h.kind in POSITIVE for h in histories])
    out["twins"] = rank_accuracy([(scores[h.twin], scores[h.id]) for h in histories if h.twin in scores])
    out["contrasts"] = rank_accuracy(pairs)
    return out
