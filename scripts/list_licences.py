"""Write docs/licences.md: every package that `make env` may install, with its version and licence."""

import re
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "licences.md"
HEAD = """# Licences

What `make env` installs, at the versions of `constraints.txt`, by `scripts/list_licences.py`; a test reads the licences
of what is installed and fails at one that is not permissive. `pip install ifam` installs a part of these: torch, timm,
Lightning and what they need. NVIDIA's libraries come with the CUDA build of torch alone; MPL-2.0 asks for nothing of
those who use a package as it is. `make env` leaves out one extra, `wandb`, and what it alone needs.

| package | version | licence |
| --- | --- | --- |
"""
# what a licence is called by packages that do not use its SPDX name; the first that matches
NAMES = {
    r"nvidia": "NVIDIA proprietary",
    r"mpl|mozilla": "MPL-2.0",
    r"apache": "Apache-2.0",
    r"python software foundation|psf|matplotlib versions": "PSF-2.0",
    r"isc": "ISC",
    r"bsd": "BSD-3-Clause",
    r"mit": "MIT",
}
WITHOUT_METADATA = {"cuda-toolkit": "NVIDIA proprietary"}  # a package without files that names NVIDIA's


def pinned() -> dict[str, str]:
    """Versions by name."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


def licence(package: str) -> str:
    """SPDX expression, made of what the package says where it gives none; "unknown" if it says nothing.

    Raises:
        PackageNotFoundError: it is not installed.
    """
    fields = metadata(package)
    if "License-Expression" in fields:
        return re.sub(r"LicenseRef-NVIDIA-Proprietary", "NVIDIA proprietary", fields["License-Expression"])
    classifiers = [line for line in fields.get_all("Classifier", []) if line.startswith("License ::")]
    said = " ".join([fields.get("License") or "", *classifiers])
    found = [name for pattern, name in NAMES.items() if re.search(rf"\b(?:{pattern})", said, re.IGNORECASE)]
    return found[0] if found else WITHOUT_METADATA.get(package, "unknown")


def main() -> None:
    """Write the page; what is not installed here is named and keeps its row."""
    listed = PAGE.read_text(encoding="utf-8").splitlines()
    rows = []
    for package, version in pinned().items():
        start = f"| {package} | {version} | "
        try:
            rows.append(f"{start}{licence(package)} |")
        except PackageNotFoundError:
            print(f"{package}: not installed here")
            rows += [line for line in listed if line.startswith(start)]
    PAGE.write_text(HEAD + "\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
