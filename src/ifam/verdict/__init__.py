"""What the numbers of an evaluation mean, in plain words: what was found, why that may be, and what to do next.

The rules. A share counts as surely below another where so few hits would come by chance in 2.5 % of the cases at most
(exact binomial test; with several groups, 2.5 % divided by their number for each). It counts as no better than guessing
where guessing would give so many hits in more than 2.5 %. Fewer than ten images say little, unless they are surely
worse than guessing.
"""

from ifam.verdict.judge import judge, judge_model
from ifam.verdict.statement import Statement, closing

__all__ = ["Statement", "closing", "judge", "judge_model"]
