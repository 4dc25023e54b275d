"""python -m unittest discover -s models/training"""

import json
import random
import tempfile
import unittest
from datetime import datetime, timedelta
from pathlib import Path

import torch

import augment
import average
import calibrate
import corpus
import export
import frames
import plan
import train
import windows
from corpus import check
from model import FITTED, HEADS, Guard, OrdinalHead, expected_level, level_probabilities
from base import Config, KEPT_SPECIALS, dumps, tokenizer_json
from plan import Item
from tokens import Encoder, flatten, gap_mark, history_pieces, items_of, window


def byte_tokenizer():
    """Special tokens and the 256 characters by which byte-level BPE writes bytes; no merges."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in shown]
    characters = [chr(b) for b in shown] + [chr(256 + i) for i in range(len(hidden))]
    return dumps(tokenizer_json({t: i for i, t in enumerate(KEPT_SPECIALS + characters)}, []))


def history(identifier, labels, twin=None, arcs=()):
    messages = [check.Message("user", f"text {i}", y, 0) for i, y in enumerate(labels)]
    return check.History(identifier, "mundane", "", twin, "someone", [("2026-01-01T10:00", messages)], list(arcs))


class Windows(unittest.TestCase):
    def test_gap_marks(self):
        start = datetime(2026, 1, 1)
        cases = {0.5: "same hour", 1: "1 hour later", 23.9: "23 hours later", 24: "1 day later", 
                 13.9 * 24: "13 days later", 14 * 24: "2 weeks later", 59 * 24: "8 weeks later",
                 60 * 24: "2 months later"}
        for hours, text in cases.items():
            self.assertEqual(gap_mark(start, start + timedelta(hours=hours)), f"new session, {text}")
        self.assertEqual(gap_mark(None, start), "new session")

    def test_control_tokens_in_content_are_text(self):
        encoder = Encoder(byte_tokenizer())
        piece = encoder.piece("user", "<|im_end|>")
        self.assertEqual(piece.ids.count(encoder.stop), 1)
        self.assertEqual(piece.ids[piece.end], encoder.stop)

    def test_window_without_the_beginning(self):
        encoder = Encoder(byte_tokenizer())
        h = history("a", [0, 2, 0, 1])
        shown = [(2, 4, 6), (3, 0, 6)]
        ids, ends = flatten(window(encoder, h.sessions, history_pieces(encoder, h.sessions), shown, carried=[1]))
        self.assertEqual([m.content for _, m in ends], ["text 1", "text 2", "text 3"])
        self.assertEqual([ids[end] for end, _ in ends], [encoder.stop] * 3)
        self.assertEqual(encoder.tokenizer.decode(ids, skip_special_tokens=True), "system\nearlier, in part\nuser\ntext 1\nsystem\nlater\n"
                         "system\nnew session\nuser\n 2\nuser\ntext 3\n")

    def test_nothing_is_learnt_from_what_is_cut_or_carried(self):
        encoder = Encoder(byte_tokenizer())
        h = history("a", [3] * 60)
        for n, m in enumerate(h.messages()):
            m.content = f"{n:03}" + "x" * 97
        counts = set()
        for seed in range(20):
            ids, ends, messages = windows.unit_windows(corpus.Unit("a", [h]), 0, encoder, [], seed)[0]
            self.assertEqual([int(ids[end]) for end in ends], [encoder.stop] * len(messages))
            text = [encoder.tokenizer.decode(ids[end - 100 : end].tolist()) for end in ends]
            self.assertEqual(text, [m.content for m in messages])
            counts.add(len(messages))
        # 18 messages of 107 tokens in the first 2,000 of a short window, then 9 in 976 each; of their context only what is whole.
        self.assertIn(18, counts)
        self.assertGreater(len(counts), 1)

    def test_items_are_what_a_window_takes(self):
        encoder = Encoder(byte_tokenizer())
        h = history("a", [0, 2])
        h.sessions.append(("2026-01-03T10:00", history("b", [0, 1]).messages()))
        pieces = history_pieces(encoder, h.sessions)
        items = items_of(encoder, h.sessions, pieces)
        self.assertEqual([bool(i.gap) for i in items], [True, False, True, False])
        whole = window(encoder, h.sessions, pieces, [(i, 0, 6) for i in range(4)])
        self.assertEqual(sum(i.content + i.around() for i in items), len(flatten(whole)[0]))

    def test_plans_are_the_written_ones(self):
        """tests/window_plans.rs compares the same file with what the program plans."""
        written = json.loads((Path(__file__).parent / "window-plans.json").read_text())
        self.assertEqual(json.loads(json.dumps(plan.examples())), written)

    def test_weights_are_the_written_ones(self):
        """src/scorer/carried.rs compares the same file with what the program carries by."""
        for one in json.loads((Path(__file__).parent / "carried-weights.json").read_text()):
            row = {head: torch.tensor(one[head]) for head in ("harassment", "delusion", "stance", "imminent")}
            found = windows.weight(one["role"], row)
            self.assertAlmostEqual(found if found >= plan.CARRIED_WEIGHT else 0, one["weight"], places=4)

    def test_cut_keeps_to_its_budget(self):
        items = [Item(44, 6, 0)] * 80
        for seed in range(50):
            shown, carried = augment.cut(history("a", [0, 3] * 40).messages(), items, random.Random(seed))
            self.assertTrue(shown)
            self.assertLessEqual(len(carried) * 50, 500)
            self.assertTrue(all(i < shown[0][0] for i in carried))

    def test_every_window_is_rolled(self):
        items, messages = [Item(44, 6, 0)] * 120, history("a", [0, 3] * 60).messages()
        found = {augment.rolled(messages, items, random.Random(seed))[0][-1][0] for seed in range(100)}
        # Of 4,096 tokens: 80 messages of 50 in the first window's 4,048, then 40 in 2,000 each. Of 2,048: 40 in 2,000, then 19 in 976 each.
        self.assertEqual(found, {79, 119} | {39, 58, 77, 96, 115, 119})

    def test_what_is_carried_is_mostly_what_the_labels_say(self):
        items, messages = [Item(44, 6, 0)] * 120, history("a", [0, 3] * 60).messages()
        carried = [i for seed in range(50) for i in augment.rolled(messages, items, random.Random(seed))[1]]
        self.assertGreater(sum(messages[i].harassment == 3 for i in carried), 0.9 * len(carried))
        self.assertTrue(carried)


class Model(unittest.TestCase):
    def test_level_probabilities_are_probabilities(self):
        head = OrdinalHead(8, 4)
        torch.nn.init.normal_(head.weight)
        p = level_probabilities(head(torch.randn(50, 8)))
        self.assertTrue(torch.allclose(p.sum(-1), torch.ones(50)))
        self.assertTrue((p >= 0).all())

    def test_windows_of_a_batch_do_not_see_each_other(self):
        torch.manual_seed(0)
        model = Guard(Config(layers=2, vocab=20, hidden=24, heads=3, kv_heads=1, ffn=32)).requires_grad_(False)
        for head in model.head.values():
            head.weight.normal_()
        a, b = torch.arange(7), torch.arange(9) + 3
        x = model.lower(torch.cat((a, b)), [7, 9])
        together = model.upper(x, torch.tensor([6, 15]), [7, 9])["harassment"]
        apart = torch.cat([model(i, torch.tensor([len(i) - 1]))["harassment"] for i in (a, b)])
        self.assertTrue(torch.allclose(together, apart, atol=1e-5))

    def test_reading_ends_alone_is_reading_all(self):
        torch.manual_seed(0)
        model = Guard(Config(layers=2, vocab=20, hidden=24, heads=3, kv_heads=1, ffn=32)).requires_grad_(False)
        x, lengths, ends = model.token_embd(torch.randint(20, (16,))), [7, 9], torch.tensor([2, 6, 7, 12, 15])
        some = model.run(x, model.blk, lengths, read=ends)
        self.assertTrue(torch.allclose(some, model.run(x, model.blk, lengths)[ends], atol=1e-5))

    def test_crossed_thresholds_are_no_levels(self):
        self.assertAlmostEqual(expected_level(torch.tensor([-2.0, 1.0, -3.0])).item(), 0.286, places=3)

    def test_in_bfloat16_it_says_nearly_the_same(self):
        torch.manual_seed(0)
        model = Guard(Config(layers=2, vocab=20, hidden=24, heads=3, kv_heads=1, ffn=32), frozen=1).requires_grad_(False)
        for head in model.head.values():
            head.weight.normal_()
        ids, ends = torch.arange(16), torch.tensor([3, 15])
        exact = model(ids, ends)["stance"]
        half = train.to_precision(train.replicate(model), torch.bfloat16)(ids, ends)["stance"]
        self.assertEqual(half.dtype, torch.float32)
        self.assertTrue(torch.allclose(exact, half, atol=0.05 * exact.abs().max().item()))

    def test_frozen_layers_are_stored_as_they_came(self):
        self.assertEqual(export.quantisation("blk.2.attn_q.weight", 3), export.Q.Q4_1)
        self.assertEqual(export.quantisation("blk.3.attn_q.weight", 3), export.Q.Q8_0)
        self.assertEqual(export.quantisation("blk.2.attn_norm.weight", 3), export.Q.F32)


class Average(unittest.TestCase):
    def checkpoint(self, weight, **other):
        return {"tokenizer": "t", "config": {}, "frozen": 6, "clock": (1.0, 2, 3), "optim": [],
                "model": {"w": torch.tensor(weight, dtype=torch.bfloat16), "n": torch.tensor([7]), **other}}

    def test_the_mean_of_weights_is_taken_and_nothing_to_train_on(self):
        mean = average.mean([self.checkpoint([1.0, -2.0]), self.checkpoint([3.0, 0.5])])
        self.assertEqual((mean["model"]["w"].tolist(), mean["model"]["n"].tolist()), ([2.0, -0.75], [7]))
        self.assertEqual((mean["model"]["w"].dtype, "optim" in mean, mean["frozen"]), (torch.bfloat16, False, 6))

    def test_checkpoints_of_different_shapes_have_no_mean(self):
        with self.assertRaises(ValueError):
            average.mean([self.checkpoint([1.0]), self.checkpoint([1.0], more=torch.zeros(1))])


class Cases(unittest.TestCase):
    """Whether a case is open by a message."""

    def cases(self, h):
        return [m.harassment_case for m in h.messages()]

    def test_open_from_the_onset_on(self):
        h = corpus.with_cases(history("a", [0, 2, 0, 1], arcs=[("harassment", 0, 1, None)]))
        self.assertEqual(self.cases(h), [False, True, True, True])
        self.assertEqual([m.delusion_case for m in h.messages()], [False] * 4)

    def test_unknown_where_a_window_has_not_shown_it(self):
        h = corpus.with_cases(history("a", [0, 2, 0, 1, 0], arcs=[("harassment", 0, 1, None)]))
        shown = windows.shown_cases(h.messages()[2:])
        self.assertEqual([m.harassment_case for m in shown], [None, True, True])

    def test_diluted_or_gathered_it_says_the_same_in_order(self):
        h = history("a", [0, 1, 2, 0, 3, 0], arcs=[("harassment", 1, 3, None)])
        h.sessions.append(("2026-01-03T10:00", [check.Message("user", "bye", 0, 0)]))
        h = corpus.with_cases(h)
        benign = [check.Message("user", f"benign {i}", 0, 0) for i in range(9)]
        for seed in range(20):
            diluted = augment.dilute(h, [benign], random.Random(seed))
            own = [m for m in diluted.messages() if not m.content.startswith("benign")]
            self.assertEqual(own, h.messages())
            others = [m.content for m in diluted.messages() if m not in own]
            self.assertIn(len(others), range(8, 25))
            starts = [start for start, _ in diluted.sessions]
            self.assertEqual(starts, sorted(starts))
            self.assertTrue(all(messages for _, messages in diluted.sessions))
            gathered = augment.in_one(diluted)
            self.assertEqual((gathered.messages(), len(gathered.sessions)), (diluted.messages(), 1))
        self.assertGreater(len(diluted.sessions), len(h.sessions) + 2)

    def test_a_spliced_session_keeps_an_open_case(self):
        h = history("a", [2, 0], arcs=[("harassment", 0, 0, None)])
        h.sessions.append(("2026-01-03T10:00", [check.Message("user", "text", 1, 0)]))
        benign = [check.Message("user", "hello", 0, 0, None, False, False, False), check.Message("assistant", "hi")]
        out = augment.splice(corpus.with_cases(h), [benign], random.Random(1))
        self.assertEqual(len(out.sessions), 3)
        self.assertEqual([m.harassment_case for m in out.messages()], [True, True, True, None, True])


class Sides(unittest.TestCase):
    def test_of_the_users_side_nothing_is_lost(self):
        h = history("a", [2, 0, 1])
        h.sessions[0][1].insert(1, check.Message("assistant", "hi", stance=1))
        self.assertEqual(augment.users_alone(h), history("a", [2, 0, 1]))

    def test_all_members_of_a_unit_are_read_alike(self):
        pair = [history("a", [2, 0]), history("b", [0, 0])]
        for h in pair:
            h.sessions[0][1].insert(1, check.Message("assistant", "hi", stance=1))
            h.sessions.append(("2026-01-03T10:00", [check.Message("user", "text", 0, 0), check.Message("assistant", "ho", stance=0)]))
        spliced = [[check.Message("user", "hello", 0, 0), check.Message("assistant", "hi", stance=0)]]
        found = {tuple(any(m.role == "assistant" for m in h.messages()) for h in augment.augment(pair, spliced, random.Random(seed)))
                 for seed in range(200)}
        self.assertEqual(found, {(True, True), (False, False)})


class Calibration(unittest.TestCase):
    def test_a_known_distortion_is_found(self):
        torch.manual_seed(0)
        true = torch.randn(20000, 1) * 3
        above = (torch.rand(20000, 1) < torch.sigmoid(true)).float()
        slope, shifts = calibrate.fit(2 * true + 1.5, above, torch.zeros(1))
        self.assertAlmostEqual(slope, 0.5, delta=0.03)
        self.assertAlmostEqual(shifts.item(), -0.75, delta=0.1)

    def test_without_data_the_correction_for_weights_stands(self):
        slope, shifts = calibrate.fit(torch.zeros(0, 2), torch.zeros(0, 2), torch.tensor([1.0, 2.0]))
        self.assertAlmostEqual(slope, 1.0, places=4)
        self.assertTrue(torch.allclose(shifts, torch.tensor([-1.0, -2.0]), atol=1e-4))

    def test_error_of_probabilities(self):
        p, y = torch.tensor([0.9] * 10 + [0.1] * 10), torch.tensor([1.0] * 9 + [0.0] + [1.0] * 5 + [0.0] * 5)
        self.assertAlmostEqual(calibrate.calibration_error(p, y), 0.2, places=5)


class Frames(unittest.TestCase):
    """Messages told under a frame: the file that says which, and the head that tells them."""

    def folder(self, of_frames):
        root = Path(self.enterContext(tempfile.TemporaryDirectory()))
        lines = ["=== ada-01 | kind=mundane", "--- 2026-01-01T10:00", "U h0 d0: one", "A s0: two", "U h0 d0: three",
                 "--- 2026-01-02T10:00", "U h0 d0: four"]
        for name, text in (("arcs", "\n".join(lines)), ("frames", of_frames)):
            (root / name).mkdir()
            (root / name / "ada.txt").write_text(text, encoding="utf-8")
        return root / "arcs"

    def test_ranges_cover_the_users_messages_and_every_message_of_the_user_is_known(self):
        (h,) = corpus.read_framed(self.folder("# read whole\nada-01 | 1.1-1.3\n"), "train")
        self.assertEqual([m.framed for m in h.messages()], [True, None, True, False])
        self.assertEqual(corpus.read_framed(self.folder("# none"), "dev"), [])

    def test_what_does_not_fit_the_histories_is_refused(self):
        for line in ("ada-02 | 1.1", "ada-01 | 1.2", "ada-01 | 1.1-2.1", "ada-01 | 1.1-1.5", "ada-01 | one", "ada-01 | 1.1\nada-01 | 1.3"):
            with self.assertRaises(ValueError, msg=line):
                corpus.read_framed(self.folder(line), "train")

    def test_figures_by_hand(self):
        found = frames.figures([0.9, 0.4, 0.6, 0.1], [1, 1, 0, 0])
        self.assertEqual((found["auc"], found["recall"], found["false_positives"]), (0.75, 0.5, 0.5))

    def test_a_fitted_head_stands_beside_the_trained_ones(self):
        config = Config(layers=1, hidden=8, ffn=8, heads=2, kv_heads=1, vocab=16, eps=1e-5, rope_base=1e4)
        plain = Guard(config)
        self.assertNotIn(frames.HEAD, plain.head)
        whole = Guard(config, heads=HEADS | FITTED)
        whole.load_state_dict(plain.state_dict(), strict=False)
        self.assertEqual(whole.head[frames.HEAD].weight.shape, (1, 8))


class Injection(unittest.TestCase):
    def test_claims_stand_in_messages_of_the_user_and_change_no_label(self):
        h = history("a", [2, 0, 1, 0])
        texts = {m.content for m in h.messages()}
        for seed in range(20):
            changed = augment.inject_claim(h, random.Random(seed))
            touched = [m for m in changed.messages() if m.content not in texts]
            self.assertIn(len(touched), (1, 2, 3, 4))
            self.assertTrue(all(m.role == "user" and any(c in m.content for c in augment.CLAIMS) for m in touched))
            self.assertEqual([m.harassment for m in changed.messages()], [2, 0, 1, 0])


class Padding(unittest.TestCase):
    def test_everyday_talk_stands_around_messages_of_the_user_alike_and_changes_no_label(self):
        pair = [history("a", [2, 0, 1]), history("b", [0, 0, 0], twin="a")]
        replies = history("c", [0, 0])
        replies.messages()[1].role = "assistant"
        sessions = [[check.Message("user", "nice weather"), check.Message("assistant", "yes"), check.Message("user", "and a recipe?")]]
        around = set()
        for seed in range(40):
            a, b, c = augment.pad([*pair, replies], sessions, random.Random(seed), chance=0.5)
            self.assertEqual(c.messages()[1].content, "text 1", "not around what the assistant says")
            self.assertEqual([m.harassment for m in a.messages()], [2, 0, 1])
            self.assertEqual([m.content for m in a.messages()], [m.content for m in b.messages()])
            for i, m in enumerate(a.messages()):
                self.assertIn(f"text {i}", m.content)
                around.add(m.content.replace(f"text {i}", "").replace("\n", " ").strip())
        self.assertIn("", around)
        self.assertIn("nice weather and a recipe?  nice weather and a recipe?", around)
        self.assertEqual(augment.pad(pair, [], random.Random(0)), pair)


class Data(unittest.TestCase):
    def test_twins_share_a_unit(self):
        units = corpus.arc_units([history("a", [2]), history("b", [0], twin="a"), history("c", [0])])
        self.assertEqual([[h.id for h in u.histories] for u in units], [["a", "b"], ["c"]])

    def test_names_are_swapped_alike_in_twins(self):
        texts = ["I met Marisol today", "then Marisol left", "and Marisol again"]
        pair = [history(i, [0] * 3) for i in "ab"]
        for h in pair:
            for m, text in zip(h.messages(), texts):
                m.content = text
        for seed in range(20):
            a, b = augment.swap_names(pair, random.Random(seed))
            self.assertEqual([m.content for m in a.messages()], [m.content for m in b.messages()])


if __name__ == "__main__":
    unittest.main()
