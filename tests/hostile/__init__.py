"""Hostile input: files, tables, settings, models and command lines that should not be, made by a generator with a seed.

Each input is given to the command line (or to what the local page does with an upload). It may work, or it is refused
with exit status 1 or 2 and one line that says what was expected. What counts as a defect: an error that nobody
foresaw, more than 10 s, more than 2 GiB of resident memory, a file touched outside the output folder, a program
started, a connection made, a warning of a library on the screen.

    cd tests && python -m hostile --json ../benchmarks/results/hostile.json   # all of them, with counts
    pytest -m slow tests/hostile                                              # the same, as a test
    pytest tests/hostile                                                      # every thirteenth
    cd tests && python -m hostile --only images/png/flipped/3                 # those whose name begins so

The corpus is its generator: `images`, `tables`, `settings`, `models` and `commands` make the same inputs for a seed.
What is written outside the folder of the survey is prevented, not only seen (`judge`): the tests may run as root.
"""
