"""How far the surface alone tells twins from originals: what should tell nothing.

    python models/training/tells.py [--split test]

Bags of words and pairs learn from the train authors, twins included, and rank the originals of another split against
their twins; so do plain counts. The last lines say where the risk stands in the positives.
"""

import argparse

from sklearn.metrics import roc_auc_score

import baselines
import corpus


def against_twins(histories, scores, arc):
    """(AUROC of originals against their twins, share of originals above their own twin)."""
    by_id = {h.id: h for h in histories}
    pairs = [(h.twin, h.id) for h in histories if h.twin in by_id and baselines.has_arc(by_id[h.twin], arc)]
    values = [scores[a] for a, _ in pairs] + [scores[b] for _, b in pairs]
    area = roc_auc_score([1] * len(pairs) + [0] * len(pairs), values)
    return area, sum((scores[a] > scores[b]) + 0.5 * (scores[a] == scores[b]) for a, b in pairs) / len(pairs)


COUNTS = {
    "words of the user": lambda h: len(baselines.user_text(h).split()),
    "words of the assistant": lambda h: sum(len(m.content.split()) for m in h.messages() if m.role != "user"),
    "sessions": lambda h: len(h.sessions),
    "messages": lambda h: len(h.messages()),
}


def worst_last(history, arc):
    """Whether the last message of the user has the highest level of the history."""
    levels = [getattr(m, arc) for m in history.messages() if m.role == "user"]
    return levels[-1] == max(levels)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--split", choices=["dev", "test"], default="test")
    args = p.parse_args()
    train, judged = (corpus.read_arcs(corpus.DATASETS / "arcs", split) for split in ("train", args.split))
    for arc in corpus.ARCS:
        print(f"{arc}: AUROC against twins, share of originals above their own twin")
        rows = {"TF-IDF, histories": baselines.tfidf_scores, "TF-IDF, highest message": baselines.tfidf_message_scores}
        scored = {name: learn(train, judged, arc) for name, learn in rows.items()}
        scored |= {name: {h.id: count(h) for h in judged} for name, count in COUNTS.items()}
        for name, scores in scored.items():
            area, above = against_twins(judged, scores, arc)
            print(f"  {name:24} {area:.2f} {above:.2f}")
        positives = [h for h in judged if baselines.has_arc(h, arc)]
        last = sum(worst_last(h, arc) for h in positives)
        onset = [sum(len(ms) for _, ms in h.sessions[:s]) / len(h.messages()) for h in positives
                 for kind, s, _, _ in h.arcs if kind == arc]
        print(f"  {last} of {len(positives)} end on their worst message; the onset's session begins after "
              f"{min(onset):.0%} to {max(onset):.0%} of the messages, {sorted(onset)[len(onset) // 2]:.0%} at the median")


if __name__ == "__main__":
    main()
