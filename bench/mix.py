#!/usr/bin/env python3
# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
"""Three models of different weight in one server: the fair policy against five others.

Poisson arrivals for all models at once, in an open loop from one thread; each model is offered the
same unit-time.  Loads are shares of the capacity: what the units could do if every sample cost what
it costs in the best batch and width, as measured under a full load of all three.  At each load and in
each round all policies get the very same arrivals, one after the other, in alternating order.

Goodput is what was answered within its model's objective, which is a multiple of what a sample
takes on one thread.  Summed plainly over the models it favours whoever drops the heavy ones, as
their answers count no more than light ones; weighted by the work of an answer (all models are offered
the same work, so that is the mean of their attainments) it does not.  Both are shown."""

import sys

import support

MODELS = ("squeezenet", "inception_v1", "resnet50")
LOADS = [0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5]
OURS = "fair"
BASELINES = ("temporal", "fixed", "greedy", "max-throughput", "max-min")


def rates_of(costs, load, units):
    """Requests per second of each model: equal work, together `load` of the units."""
    return [1000 * load * units / (len(costs) * c["unit_ms"]) for c in costs]


def ratio(ours, theirs):
    return ours / theirs if theirs else 1.0


class Point:
    """One policy at one load, all rounds together."""

    def __init__(self, n_models):
        self.counts, self.seconds = [[0] * 5 for _ in range(n_models)], 0.0

    def add(self, counts, seconds):
        self.counts = [[a + b for a, b in zip(x, y)] for x, y in zip(self.counts, counts)]
        self.seconds += seconds

    def plain(self):
        return sum(c[1] for c in self.counts) / self.seconds

    def attainments(self):
        return [c[1] / c[0] if c[0] else 1.0 for c in self.counts]

    def by_work(self):
        a = self.attainments()
        return sum(a) / len(a)


def main():
    args = support.arguments(__doc__, seconds=3.0, warmup=0.7, rounds=3, factor=5.0, max_batch=8,
                             loads=",".join(map(str, LOADS)))
    loads = [float(x) for x in args.loads.split(",")]
    policies = (OURS,) + BASELINES
    paths = [support.light_model(m, batch=True) for m in MODELS]
    goals = [round(args.factor * support.lone_ms(p, 10), 2) for p in paths]
    units = support.cores()
    with support.Mix(list(zip(paths, goals)), "--max-batch", args.max_batch) as mix:
        support.say("objectives: " + ", ".join(f"{m} {g} ms" for m, g in zip(MODELS, goals)))
        support.say("measuring the capacity")
        mix.tell("policy", OURS)
        mix.run(max(args.seconds, 5), args.warmup, 1, rates_of(mix.costs, 1.0, units))
        costs = mix.ask("costs")["models"]
        points = {(load, p): Point(len(MODELS)) for load in loads for p in policies}
        for r in range(args.rounds):
            for load in loads:
                rates = rates_of(costs, load, units)
                support.say(f"round {r + 1}, load {load:g}: "
                            + ", ".join(f"{x:.1f}/s" for x in rates))
                for p in policies if r % 2 == 0 else policies[::-1]:
                    mix.tell("policy", p)
                    run = mix.run(args.seconds, args.warmup, 100 + r, rates)
                    points[load, p].add(mix.tally(run), args.seconds)
        mix.tell("policy", OURS)
        plan = mix.ask("plan")

    def worst(key):
        """(ratio, load, which) of the worst load against the best baseline there."""
        rows = []
        for load in loads:
            best = max(BASELINES, key=lambda p: key(points[load, p]))
            rows.append((ratio(key(points[load, OURS]), key(points[load, best])), load, best))
        return min(rows)

    def gains(key):
        """{baseline: (greatest gain, load)}."""
        return {p: max((ratio(key(points[load, OURS]), key(points[load, p])), load)
                       for load in loads) for p in BASELINES}

    plain, work = worst(Point.plain), worst(Point.by_work)
    gain_plain, gain_work = gains(Point.plain), gains(Point.by_work)
    least, least_work = min(gain_plain, key=gain_plain.get), min(gain_work, key=gain_work.get)
    fair = min((support.jain(points[load, OURS].attainments()), load)
               for load in loads if load <= 1.0)
    asked = sum(c[0] for p in points.values() for c in p.counts)
    lost = sum(c[4] for p in points.values() for c in p.counts)
    report = support.Report("mix", args.json)
    n = args.rounds
    held = "it holds at every load" if plain[0] >= 0.97 else "it does not hold at every load"
    report.add("worst_vs_best_baseline", plain[0], n=n, goal=(">=", 0.97),
               note=f"goodput as a plain sum of answers per second, which is what is gated: {held}; "
                    f"worst at load {plain[1]:g} against {plain[2]}; weighted by work it is "
                    f"{work[0]:.3f}, at load {work[1]:g} against {work[2]}")
    report.add("best_gain_each", gain_plain[least][0], n=n, goal=(">=", 1.1),
               note=f"plain sum; least against {least}, at load {gain_plain[least][1]:g}; weighted by "
                    f"work {gain_work[least_work][0]:.3f}, against {least_work}")
    report.add("jain", fair[0], n=n, goal=(">=", 0.95),
               note=f"of the models' attainments under {OURS}; worst at load {fair[1]:g}")
    report.add("worst_by_work", work[0], n=n, note="as worst_vs_best_baseline, weighted by work")
    report.add("best_gain_by_work", gain_work[least_work][0], n=n, note="as best_gain_each, weighted")
    report.add("lost", lost, "requests", n=asked, goal=("==", 0),
               note="neither answered nor refused, of all policies")
    report.detail(f"{', '.join(MODELS)}; objectives {', '.join(f'{g:g}' for g in goals)} ms; a sample "
                  f"costs {', '.join(format(c['unit_ms'], '.1f') for c in costs)} ms of a unit; "
                  f"{n} rounds of {args.seconds:g} s; seeds 100..{99 + n}")
    report.detail()
    report.detail("goodput, answers/s within the objective, plain sum:")
    head = ("load", *policies, "ours/best")
    rows = [head]
    for load in loads:
        best = max(points[load, p].plain() for p in BASELINES)
        rows.append((f"{load:g}", *(f"{points[load, p].plain():.1f}" for p in policies),
                     f"{ratio(points[load, OURS].plain(), best):.3f}"))
    report.table(rows, left=())
    report.detail()
    report.detail("mean attainment (weighted by work), and of each model:")
    rows = [head]
    for load in loads:
        best = max(points[load, p].by_work() for p in BASELINES)
        rows.append((f"{load:g}", *(f"{points[load, p].by_work():.3f} ("
                                    + " ".join(f"{a:.2f}" for a in points[load, p].attainments())
                                    + ")" for p in policies),
                     f"{ratio(points[load, OURS].by_work(), best):.3f}"))
    report.table(rows, left=())
    report.detail()
    report.detail(f"the plan at the end: {plan['verdict']}")
    for m, model in zip(MODELS, plan["models"]):
        report.detail(f"  {m}: {model.get('units')} units, batch {model.get('batch')}, "
                      f"{model.get('predicted_ms')} ms. {model.get('why')}")
    return report.print()


if __name__ == "__main__":
    sys.exit(main())
