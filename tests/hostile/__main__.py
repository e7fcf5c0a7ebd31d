"""The whole corpus, or those whose name begins with --only."""

import argparse
import sys
from pathlib import Path

from hostile.survey import report, survey

arguments = argparse.ArgumentParser(description=__doc__)
arguments.add_argument("--only", default="", metavar="NAME")
arguments.add_argument("--every", type=int, default=1, metavar="N")
arguments.add_argument("--json", type=Path, metavar="FILE")
options = arguments.parse_args()
sys.exit(report(survey(only=options.only, every=options.every, say=lambda line: print(line, flush=True)), options.json))
