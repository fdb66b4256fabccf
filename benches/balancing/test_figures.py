"""Tests of the arithmetic; `python3 -m unittest` in this folder, or tests/run."""

import unittest

import figures
from figures import Request


def request(due_s, took=20.0, outcome="200", backend="b0", late=0.1):
    return Request(f"{due_s * 1000:.3f},{late:.3f},{took:.3f},{outcome},{backend}\n")


class Quantiles(unittest.TestCase):
    def test_nearest_rank(self):
        values = list(range(1, 101))
        self.assertEqual([figures.quantile(values, q) for q in (0.5, 0.99, 0.999, 1)], [50, 99, 100, 100])
        self.assertEqual(figures.quantile([7], 0.01), 7)
        # 0.99 × 200 is 198, not a little more.
        self.assertEqual(figures.quantile(range(1, 201), 0.99), 198)


class Summaries(unittest.TestCase):
    def test_failures_count_as_five_seconds(self):
        requests = [request(i / 100) for i in range(98)]
        requests += [request(0.99, 1.0, "503"), request(0.995, 300.0, "timeout", "")]
        found = figures.summary(requests, ["b0", "b1"])
        self.assertEqual((found["requests"], found["failed"], found["p99_ms"]), (100, 2, 5000.0))
        self.assertEqual(found["p50_ms"], 20.0)
        self.assertEqual(found["outcomes"], {"200": 98, "503": 1, "timeout": 1})

    def test_a_late_answer_and_one_that_was_not_sent_are_no_success(self):
        requests = [request(0), request(0, 1000.0), request(0, 1000.5), request(0, 0.0, "not_sent", "")]
        found = figures.summary(requests, ["b0"])
        self.assertEqual((found["success"], found["failed"], found["not_sent"]), (0.5, 1, 1))

    def test_a_fair_share_is_one(self):
        requests = [request(0, backend=f"b{i % 4}") for i in range(400)] + [request(0, 1, "503", "b3")]
        names = [f"b{i}" for i in range(5)]
        shares = figures.summary(requests, names)["shares"]
        self.assertEqual(shares, {"b0": 1.25, "b1": 1.25, "b2": 1.25, "b3": 1.25, "b4": 0.0})

    def test_a_log_has_a_head(self):
        lines = ["due_ms,late_ms,latency_ms,outcome,backend\n", "1.000,0.000,2.500,404,\n"]
        (only,) = figures.read_log(lines)
        self.assertEqual((only.due, only.took, only.good), (1.0, 2.5, True))

    def test_a_request_is_in_the_window_in_which_it_was_due(self):
        requests = [request(second) for second in (0, 1.999, 2, 3.5, 4)]
        self.assertEqual([r.due for r in figures.within(requests, 2, 4)], [2000, 3500])


class Ratios(unittest.TestCase):
    def rounds(self, *values):
        return [{arm: {"p99_ms": value} for arm, value in zip("abt", some)} for some in values]

    def test_each_round_has_its_own_best_rival(self):
        found, best = figures.ratios(self.rounds((10, 20, 5), (20, 10, 20), (10, 10, 10)), "t", "p99_ms")
        self.assertEqual(found, [0.5, 2.0, 1.0])
        self.assertEqual(best, {"a": 2, "b": 1})
        rounds = self.rounds((10, 20, 5), (20, 10, 20))
        self.assertEqual(figures.paired(rounds, "t", "b", "p99_ms"), [0.25, 2.0])

    def test_bounds_hold_the_median_and_repeat(self):
        values = [0.8, 0.9, 1.0, 1.1, 1.5]
        middle, low, high = figures.bootstrap(values)
        self.assertEqual(middle, 1.0)
        self.assertTrue(0.8 <= low < 1.0 < high <= 1.5)
        self.assertEqual(figures.bootstrap(values), (middle, low, high))
        self.assertEqual(figures.bootstrap([2.0] * 5), (2.0, 2.0, 2.0))

    def test_more_rounds_make_narrower_bounds(self):
        few = figures.bootstrap([0.9, 1.0, 1.1, 1.2, 1.3])
        many = figures.bootstrap([0.9, 1.0, 1.1, 1.2, 1.3] * 20)
        self.assertLess(many[2] - many[1], few[2] - few[1])

    def test_bounds_have_their_level(self):
        # Of 101 medians of a single value each, uniform over 0..100, 90 % are between 5 and 95.
        _, low, high = figures.bootstrap(list(range(101)), level=0.9)
        self.assertTrue(35 < low < 45 and 55 < high < 65, (low, high))


class Shares(unittest.TestCase):
    others = ["b1", "b2"]

    def traffic(self, own):
        """Ten requests a second to each of the others; `own(second)` to b0."""
        requests = []
        for second in range(30):
            for name, count in (("b0", own(second)), ("b1", 10), ("b2", 10)):
                requests += [request(second + i / 100, backend=name) for i in range(count)]
        return requests

    def test_back_with_the_first_window_of_a_full_share(self):
        # Nothing from 5 to 12, half until 15, then all: 14 to 19 is the first window with 45 of 50.
        requests = self.traffic(lambda s: 10 if s < 5 else 0 if s < 12 else 5 if s < 15 else 10)
        self.assertEqual(figures.back_after(requests, "b0", self.others, 10, 30), 9)
        self.assertIsNone(figures.back_after(requests, "b0", self.others, 10, 18))
        self.assertEqual(figures.share_series(requests, "b0", self.others, 30)[11:16], [0, 0.5, 0.5, 0.5, 1])

    def test_failed_answers_are_no_share(self):
        requests = [request(0, 1, "503", "b0")] * 50 + [request(0, backend="b1")] * 5
        self.assertEqual(figures.share_of(requests, "b0", ["b1"]), 0)
        self.assertIsNone(figures.share_of(requests, "b1", ["b0"]))


class Goodput(unittest.TestCase):
    def test_recovery_lasts(self):
        slow = {10, 11, 12, 14}
        requests = [request(s, 500.0 if s in slow else 50.0) for s in range(20) for _ in range(10)]
        self.assertEqual(figures.goodput(requests, 200), 0.8)
        self.assertEqual(figures.recovered(requests, 10, 20, 200), 5)
        self.assertIsNone(figures.recovered(requests, 10, 15, 200))


if __name__ == "__main__":
    unittest.main()
