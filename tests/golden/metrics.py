"""Records what scikit-learn, SciPy and plain Python say of invented scores: metrics.json, for tests/benchmark_metrics.rs.

    python tests/golden/metrics.py

Scores are rounded to a few steps, so that ties are common. ERDE and F-latency have no library: they are written here
from the papers, and two small cases of them are worked out by hand in the test itself.
"""

import json
import math
import random
import statistics
import sys
from pathlib import Path

import numpy as np
from scipy.stats import skew, spearmanr
from sklearn.calibration import calibration_curve
from sklearn.metrics import (average_precision_score, cohen_kappa_score, f1_score, precision_recall_curve,
                             roc_auc_score, roc_curve)

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "models" / "training"))
import baselines  # noqa: E402
from corpus import check  # noqa: E402

BINS = 15


def scored(rng, count, steps):
    """(score, positive): positives somewhat higher, both on a grid of `steps`."""
    out = []
    for _ in range(count):
        positive = rng.random() < 0.35
        score = min(1.0, max(0.0, rng.gauss(0.6 if positive else 0.4, 0.25)))
        out.append((round(score * steps) / steps, positive))
    return out


def calibration_error(scores, labels):
    """From scikit-learn's points and counts of the same bins, (low, high]."""
    found, said = calibration_curve(labels, scores, n_bins=BINS)
    bins = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], scores)
    counts = np.bincount(bins, minlength=BINS)
    return float(np.sum(counts[counts > 0] * np.abs(found - said)) / len(scores))


def recall_at(scores, labels, rate):
    """From every possible threshold: the best recall that keeps false positives within the rate."""
    negatives, positives = scores[~labels], scores[labels]
    best = 0.0
    for threshold in [math.inf, *sorted(set(scores))]:
        if np.sum(negatives >= threshold) <= int(rate * len(negatives)):
            best = max(best, float(np.mean(positives >= threshold)))
    return best


def best_f1(scores, labels):
    return max(f1_score(labels, scores >= t) for t in set(scores))


def ranking_case(rng, count, steps):
    rows = scored(rng, count, steps)
    scores = np.array([s for s, _ in rows])
    labels = np.array([y for _, y in rows])
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    precision, recall, _ = precision_recall_curve(labels, scores)
    return {
        "scored": rows,
        "auroc": roc_auc_score(labels, scores),
        "average_precision": average_precision_score(labels, scores),
        "f1_at_half": f1_score(labels, scores >= 0.5),
        "best_f1": best_f1(scores, labels),
        "recall_at_1": recall_at(scores, labels, 0.01),
        "recall_at_5": recall_at(scores, labels, 0.05),
        "calibration_error": calibration_error(scores, labels),
        "roc": [list(p) for p in zip(fpr.tolist(), tpr.tolist())],
        # scikit-learn's last point, recall 0 and precision 1, belongs to no threshold.
        "precision_recall": [list(p) for p in zip(recall[:-1].tolist(), precision[:-1].tolist())][::-1],
    }


def kappa_case(rng, count):
    pairs = [(g, min(3, max(0, g + rng.choice([-2, -1, 0, 0, 0, 1])))) for g in rng.choices(range(4), [6, 2, 1, 1], k=count)]
    gold, predicted = zip(*pairs)
    return {"pairs": pairs, "kappa": cohen_kappa_score(gold, predicted, weights="quadratic", labels=range(4))}


def spearman_case(rng, count):
    pairs = [(round(rng.random(), 1), round(rng.gauss(0, 1))) for _ in range(count)]
    return {"pairs": pairs, "spearman": float(spearmanr(*zip(*pairs)).statistic)}


def early_case(rng, count):
    decisions = [(rng.random() < 0.3, rng.choice([None, rng.randint(1, 30)])) for _ in range(count)]
    share = sum(y for y, _ in decisions) / count
    lengths_median = 14.5

    def cost(positive, read, o):
        if positive:
            return 1 if read is None else 1 - 1 / (1 + math.exp(read - o))
        return 0 if read is None else share

    p = math.log(3) / (lengths_median - 1)
    hits = [-1 + 2 / (1 + math.exp(-p * (read - 1))) for y, read in decisions if y and read]
    f1 = f1_score([y for y, _ in decisions], [read is not None for _, read in decisions])
    return {
        "decisions": decisions,
        "lengths_median": lengths_median,
        "erde_5": statistics.fmean(cost(y, read, 5) for y, read in decisions),
        "erde_50": statistics.fmean(cost(y, read, 50) for y, read in decisions),
        "f_latency": f1 * (1 - statistics.median(hits)),
    }


def splitmix64(seed, count):
    """The reference implementation of Vigna (public domain), in Python."""
    mask, out = (1 << 64) - 1, []
    for _ in range(count):
        seed = (seed + 0x9E3779B97F4A7C15) & mask
        z = seed
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        out.append(str(z ^ (z >> 31)))
    return out


# Every branch of the lexicon, and words beside it.
PHRASES = """stalk|stalking|stalks|followed her|following them|follow her|track|tracks|tracker|tracked|GPS|watch her|watching him|
watches her|her address|his address|their address|where she lives|where he parks|where they work|new account|fake account|burner|
blocked me|restraining order|no contact|no-contact|nocontact|expose|exposed|ruin|destroy|revenge|make her pay|make them pay|deserve|
deserves|threat|threaten|hurt|hurts|kill|killing|gun|gunner|knife|dox|doxxed|screenshot|screenshots|dossier|evidence on|evidence|
sign|signs|design|chosen|destiny|mission|awaken|awakening|conscious|consciousness|sentient|alive|frequency|vibration|signal|signals|
code|coded|codes|coder|pattern|patterns|simulation|prophecy|prophet|message for me|messages for me|they're watching|they are listening|
they listen|surveillance|implant|implanted|poison|poisoned|microphone|gangstalking|meds|medication|pills|soul|souls|divine|god told|
only you|our bond|real you|proof|proofs|breakthrough|İs signs|straße code""".replace("\n", "").split("|")


def phrase_cases():
    return [[p, len(baselines.LEXICON["harassment"].findall(p)), len(baselines.LEXICON["delusion"].findall(p))]
            for p in (f"so, {p.strip()}." for p in PHRASES)]


def keyword_cases():
    """Matches by arc of every history of a dev author."""
    out = {}
    for history in check.parse(ROOT / "datasets" / "arcs" / "hale.txt"):
        out[history.id] = {arc: baselines.keyword_score(history, arc) for arc in baselines.LEXICON}
    return out


def main():
    rng = random.Random(20)
    levels = [[round(rng.random() ** 3, 3) for _ in range(n)] for n in (2, 3, 9, 40)]
    golden = {
        "ranking": [ranking_case(rng, n, steps) for n, steps in [(12, 4), (60, 10), (200, 25), (300, 1000)]],
        "kappa": [kappa_case(rng, n) for n in (8, 60, 400)],
        "spearman": [spearman_case(rng, n) for n in (5, 40, 200)],
        "early": [early_case(rng, n) for n in (15, 80)],
        "skewness": [{"values": values, "skewness": float(skew(values))} for values in levels],
        "splitmix64": {"seed": "1234567", "values": splitmix64(1234567, 5)},
        "keywords": keyword_cases(),
        "phrases": phrase_cases(),
    }
    path = Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(golden) + "\n", encoding="utf-8")
    print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
