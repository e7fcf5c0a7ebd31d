"""``python -m ifam``, and with it ``torchrun -m ifam``."""

import sys

from ifam.cli import main

sys.exit(main())
