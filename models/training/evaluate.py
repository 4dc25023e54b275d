"""Compare what `throughline score --output FILE` wrote with the labels of author files.

    python models/training/evaluate.py OUTPUT.jsonl datasets/arcs/perrin.txt … [--json]

Intervals: 95% percentile bootstrap over histories, an original and its twin being drawn together.
"""

import argparse
import json
import random
import statistics
import sys
from pathlib import Path

from sklearn.metrics import cohen_kappa_score, roc_auc_score

import baselines
import corpus
from baselines import has_arc
from corpus import check

ARCS = ("harassment", "delusion")
LEVELS = {"harassment": [0, 1, 2, 3], "delusion": [0, 1, 2, 3], "stance": [-1, 0, 1, 2]}
FALSE_ALARMS = 0.05


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("output", help="JSON lines written by `throughline score --output`")
    p.add_argument("gold", nargs="+", help="author files with the labels")
    p.add_argument("--arcs", default=Path(__file__).resolve().parents[2] / "datasets" / "arcs",
                   help="all author files, for the TF-IDF baseline, which learns from the train authors")
    p.add_argument("--samples", type=int, default=1000, help="bootstrap samples")
    p.add_argument("--json", action="store_true")
    return p.parse_args()


def read_output(path):
    """({(history, session, message): line}, {history: {arc: its entry}})."""
    messages, histories = {}, {}
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row.get("type") == "message":
            messages[row["user_id"], row["session_id"], row["message_index"]] = row
        elif row.get("type") == "history":
            histories[row["user_id"]] = {a["kind"]: a for a in row["arcs"]}
    return messages, histories


def message_keys(history):
    """[(key in the output, message)] in time order."""
    return [((history.id, f"{history.id}/s{s}", i), m)
            for s, (_, ms) in enumerate(history.sessions, 1) for i, m in enumerate(ms)]


def expected(probabilities, levels):
    return sum(p * y for p, y in zip(probabilities, levels))


def last_message_score(history, messages, arc):
    """The model's view of the last user message, judged with the history before it."""
    rows = [messages[k] for k, m in message_keys(history) if m.role == "user" and k in messages]
    return expected(rows[-1][arc], LEVELS[arc]) / 3 if rows else 0.0


# --- figures of one score on a list of histories -------------------------------------------------------------

def auroc(positive, negative):
    if not positive or not negative:
        return None
    return roc_auc_score([1] * len(positive) + [0] * len(negative), positive + negative)


def recall_at(positive, negative, rate=FALSE_ALARMS):
    """Recall at the lowest threshold that lets through at most `rate` of the negatives."""
    if not positive or not negative:
        return None
    allowed = int(rate * len(negative))
    threshold = sorted(negative, reverse=True)[allowed]
    return sum(s > threshold for s in positive) / len(positive)


def arc_figures(groups, score, arc):
    """AUROC against all negatives and against twins, twin accuracy, recall at 5% false alarms."""
    histories = [h for g in groups for h in g]
    positive = [score[h.id] for h in histories if has_arc(h, arc)]
    negative = [score[h.id] for h in histories if not h.arcs]
    pairs = [(score[g[0].id], score[g[1].id]) for g in groups if len(g) == 2 and has_arc(g[0], arc)]
    return {
        "auroc": auroc(positive, negative),
        "auroc_twins": auroc([a for a, _ in pairs], [b for _, b in pairs]),
        "twin_accuracy": statistics.mean((a > b) + 0.5 * (a == b) for a, b in pairs) if pairs else None,
        "recall_at_5_fpr": recall_at(positive, negative),
    }


def kappa_figures(groups, messages):
    """Quadratic-weighted kappa per head between gold levels and rounded expected levels."""
    out = {}
    keyed = [(key, m) for g in groups for h in g for key, m in message_keys(h)]
    for head, levels in LEVELS.items():
        rows = [(getattr(m, head), messages[key][head]) for key, m in keyed
                if getattr(m, head) is not None and messages.get(key, {}).get(head)]
        gold = [y for y, _ in rows]
        predicted = [round(expected(p, levels)) for _, p in rows]
        usable = len(set(gold) | set(predicted)) > 1
        out[head] = cohen_kappa_score(gold, predicted, weights="quadratic", labels=levels) if usable else None
    return out


def onset_delays(histories, found, arc):
    """(delays in messages: positive is late, positives without any reported onset)."""
    delays, missed = [], 0
    for h in histories:
        gold = next(((s, i) for kind, s, i, _ in h.arcs if kind == arc), None)
        if gold is None:
            continue
        onset = found[h.id].get(arc, {}).get("onset")
        if not onset:
            missed += 1
            continue
        place = {key[1:]: n for n, (key, _) in enumerate(message_keys(h))}
        reported = place[onset["session_id"], onset["message_index"]]
        delays.append(reported - place[f"{h.id}/s{gold[0] + 1}", gold[1]])
    return delays, missed


def onset_figures(groups, found, arc):
    delays, missed = onset_delays([h for g in groups for h in g], found, arc)
    total = len(delays) + missed
    return {
        "reported": len(delays) / total if total else None,
        "delay_median": statistics.median(delays) if delays else None,
        "within_4_messages": sum(abs(d) <= 4 for d in delays) / total if total else None,
    }


# --- bootstrap and report ------------------------------------------------------------------------------------

def clusters(histories):
    """Originals followed by their twin; everything else alone."""
    groups = {h.id: [h] for h in histories if not h.twin}
    for h in histories:
        if h.twin:
            groups.setdefault(h.twin, []).append(h)
    return list(groups.values())


def with_intervals(groups, figures, samples, seed=1):
    """{name: [value, low, high]} of `figures`, a function of a list of groups (Efron's percentile bootstrap)."""
    rng, drawn = random.Random(seed), {}
    for _ in range(samples):
        for name, v in figures(rng.choices(groups, k=len(groups))).items():
            if v is not None:
                drawn.setdefault(name, []).append(v)
    return {name: [v, *bounds(drawn.get(name, []))] for name, v in figures(groups).items()}


def bounds(values):
    if not values:
        return None, None
    ordered = sorted(values)
    return ordered[int(0.025 * (len(ordered) - 1))], ordered[int(0.975 * (len(ordered) - 1))]


def scores(histories, messages, found, train, arc):
    """{detector: {history id: score}}: the model as it reports, and the baselines."""
    return {
        "throughline": {h.id: found[h.id].get(arc, {}).get("score", 0.0) for h in histories},
        "last message in context": {h.id: last_message_score(h, messages, arc) for h in histories},
        "TF-IDF + logistic regression": baselines.tfidf_scores(train, histories, arc),
        "keywords": {h.id: baselines.keyword_score(h, arc) for h in histories},
    }


def evaluate(histories, messages, found, train, samples):
    groups = clusters(histories)
    out = {"histories": len(histories), "arcs": {}, "onset": {}}
    for arc in ARCS:
        out["arcs"][arc] = {
            name: with_intervals(groups, lambda g: arc_figures(g, score, arc), samples)  # noqa: B023
            for name, score in scores(histories, messages, found, train, arc).items()
        }
        out["onset"][arc] = with_intervals(groups, lambda g: onset_figures(g, found, arc), samples)  # noqa: B023
    out["kappa"] = with_intervals(groups, lambda g: kappa_figures(g, messages), samples)
    return out


def cell(triple):
    value, low, high = triple
    if value is None:
        return "–"
    return f"{value:.2f}" if low is None else f"{value:.2f} [{low:.2f}, {high:.2f}]"


def table(title, rows):
    """A Markdown table of {row: {column: triple}}."""
    columns = list(next(iter(rows.values())))
    lines = [f"| {title} | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(cell(row[c]) for c in columns) + " |" for name, row in rows.items()]
    return "\n".join(lines) + "\n"


def text(result):
    parts = [f"{result['histories']} histories; value [95% interval]\n"]
    parts += [table(f"{arc}, history score", rows) for arc, rows in result["arcs"].items()]
    parts += [table("onset (messages)", result["onset"])]
    parts += [table("message agreement", {"quadratic kappa": result["kappa"]})]
    return "\n".join(parts)


def main():
    args = arguments()
    messages, found = read_output(args.output)
    gold = [h for path in args.gold for h in check.parse(path)]
    missing = [h.id for h in gold if h.id not in found]
    if missing:
        print(f"not in {args.output}, left out: {', '.join(missing)}", file=sys.stderr)
    histories = [h for h in gold if h.id in found]
    if not histories:
        sys.exit("nothing to evaluate: no history of the author files is in the output")
    train = corpus.read_arcs(args.arcs, "train")
    result = evaluate(histories, messages, found, train, args.samples)
    print(json.dumps(result, indent=1) if args.json else text(result))


if __name__ == "__main__":
    main()
