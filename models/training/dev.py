"""Figures on the development authors, for watching a run; the reported ones come from `throughline benchmark`."""

from concurrent.futures import ThreadPoolExecutor

import torch
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from corpus import ARCS, target
from loss import message_loss
from model import HEADS, expected_level
from windows import predict

def auc(scores, positive):
    """Area under the ROC curve, or None where one class is missing."""
    return round(roc_auc_score(positive, scores), 4) if 0 < sum(positive) < len(positive) else None


def kappa(y, p, levels):
    if len(set(y)) < 2:
        return None
    return round(cohen_kappa_score(y, p, weights="quadratic", labels=list(range(levels))), 4)


def rank_accuracy(pairs):
    return round(sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs), 4) if pairs else None


def history_scores(logits, messages):
    """{(arc, detector): score}: of the highest expected level, and of the highest logit of an open case."""
    users = [i for i, m in enumerate(messages) if m.role == "user"]
    out = {}
    for arc in ARCS:
        out[arc, "level"] = expected_level(logits[arc])[users].max().item()
        out[arc, "case"] = logits[f"{arc}_case"][users].max().item()
    return out


def history_figures(scores, histories):
    """AUROC of each arc, against all histories without it and against the twins of those with it, and twin accuracy."""
    out = {}
    for arc, by in next(iter(scores.values()), {}):
        has = {h.id: any(kind == arc for kind, *_ in h.arcs) for h in histories}
        value = {name: s[arc, by] for name, s in scores.items()}
        paired = [h for h in histories if has.get(h.twin)]
        against = [h.twin for h in paired] + [h.id for h in paired]
        out[f"{arc}_{by}"] = [auc([value[h.id] for h in histories], [has[h.id] for h in histories]),
                              auc([value[i] for i in against], [has[i] for i in against]),
                              rank_accuracy([(value[h.twin], value[h.id]) for h in paired])]
    return out


def contrast_pairs(members):
    """By head (score of the message with the higher label, of the one with the lower) wherever labels differ."""
    pairs = {"harassment": [], "delusion": [], "stance": []}
    for a in range(len(members)):
        for b in range(a + 1, len(members)):
            (la, ma), (lb, mb) = members[a], members[b]
            for i in range(min(len(ma), len(mb))):
                for head in ("harassment", "delusion", "stance"):
                    ya, yb = target(ma[i], head), target(mb[i], head)
                    if ya is not None and yb is not None and ya != yb:
                        sa, sb = expected_level(la[head][i]).item(), expected_level(lb[head][i]).item()
                        pairs[head].append((sa, sb) if ya > yb else (sb, sa))
    return pairs


def predictions(model, encoder, histories, sets, lower=None, workers=2):
    """{id: head logits} of every history and every member of a contrast set."""
    every = histories + [h for members in sets.values() for h in members]
    with ThreadPoolExecutor(workers) as pool:
        found = pool.map(lambda h: predict(model, encoder, h, lower), every)
        return dict(zip((h.id for h in every), found))


def head_figures(rows, head):
    """AUROC at the middle of the scale and quadratic kappa from [(level, logits)]."""
    levels = HEADS[head]
    middle = (levels - 1) // 2
    y = [r[0] for r in rows]
    out = {"auc": auc([r[1][middle].item() for r in rows], [v > middle for v in y])}
    if levels > 2:
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
    out["histories"] = history_figures({h.id: history_scores(found[h.id], h.messages()) for h in histories}, histories)
    by_set = [contrast_pairs([(found[h.id], h.messages()) for h in s]) for s in sets.values()]
    out["contrasts"] = {head: rank_accuracy([p for pairs in by_set for p in pairs[head]])
                        for head in ("harassment", "delusion", "stance")}
    return out
