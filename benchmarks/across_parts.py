"""The parts that several runs find in the same photographs: one column for each run, as the paper's figures 5 to 7.

    python benchmarks/across_parts.py DATA RUN [RUN ...] --figure FILE [--images 6] [--split test]

The runs may differ in their number of parts, as those of ``ifam benchmark`` do: ``runs/ifam-1/setting0-seed0``,
``runs/ifam-4/setting0-seed0``, ``runs/ifam-8/setting0-seed0``. The photographs are evenly spaced over the split.
"""

import argparse
from pathlib import Path

from ifam.commands.inputs import load_with_parts
from ifam.data.read import read_table
from ifam.data.table import evenly_spaced
from ifam.explanations.figures import picture_file
from ifam.explanations.part_grid import across_models_figure


def main() -> None:
    """Draw it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--figure", type=Path, required=True)
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--split", default="test")
    options = parser.parse_args()
    models = {}
    for run in options.runs:
        model = load_with_parts(str(run))
        heading = f"K = {model.num_parts}"
        models[heading if heading not in models else f"{heading}\n{run.name}"] = model
    samples = evenly_spaced(read_table(options.data).select(options.split).samples, options.images)
    with picture_file(options.figure) as temporary:
        across_models_figure(models, [sample.path for sample in samples]).savefig(temporary)


if __name__ == "__main__":
    main()
