"""Tables over methods and seeds: runs that are made or taken, scored alike, beside the numbers of the paper."""

NAMES = (
    "waterbirds", "cub", "metashift", "siim_acr", "in9", "birds-on-scenes", "ablation", "interventions", "scenes"
)  # fmt: skip
"""of `ifam.benchmarks.suite.BENCHMARKS`, without its imports"""
SPEED = "speed"
"""the benchmark of `ifam.benchmarks.speed`, which trains nothing"""
FAITHFULNESS = "faithfulness"
"""the benchmark of `ifam.benchmarks.faithfulness`"""
