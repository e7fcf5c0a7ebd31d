"""The guarantee, checked on a model and on photographs: `verify` makes a `Certificate`.

`audit` replaces pixels and compares answers, `lending` says who lends its pixels to whom, `probes` asks what the masks
tell of the answers, `findings` holds the results, `record` writes a certificate down and checks it again.
"""

from ifam.verify.audit import LARGEST_SEED, verify
from ifam.verify.findings import Certificate, Changes, Leakage, MaskAlone
from ifam.verify.lending import lend
from ifam.verify.probes import mask_leakage

__all__ = ["LARGEST_SEED", "Certificate", "Changes", "Leakage", "MaskAlone", "lend", "mask_leakage", "verify"]
