"""A certificate as a file, and the comparison of such a file with what is found now."""

from collections.abc import Mapping, Sequence
from typing import Any

from ifam.data.table import ImageTable
from ifam.errors import DataError, VerificationError
from ifam.verify.findings import VERDICTS, Certificate, Setting
from ifam.verify.photographs import Photographs, distinct

KIND = "ifam certificate"
VERSION = 1
ROUNDING = 0.01
"""change of a share that another machine's arithmetic may bring"""


def to_record(
    found: Certificate, *, model_files: Sequence[Mapping[str, Any]], machine: Mapping[str, str], written: str
) -> dict[str, Any]:
    """Plain values for JSON: the findings, and what they were found on, with and when."""
    origin = {"model_files": list(model_files), "machine": dict(machine), "written": written}
    return {"kind": KIND, "version": VERSION} | found.to_dict() | origin


def setting_of(record: Mapping[str, Any], where: object) -> Setting:
    """The seed, precision and batch size that a record was made with.

    Raises:
        DataError: not a certificate.
    """
    if record.get("kind") != KIND or record.get("version") != VERSION:
        raise DataError(f"{where}: expected a certificate of ifam verify --json, got another file; make a new one")
    try:
        dict.fromkeys(photograph["sha256"] for photograph in record["photographs"])
        return Setting(**record["setting"])
    except (KeyError, TypeError):
        raise DataError(
            f"{where}: expected a certificate with its setting, got a damaged one; make a new one"
        ) from None


def require_same_model(record: Mapping[str, Any], weights: str, description: str) -> None:
    """Refuse a model that is not the one of the record; both hashes as of `ifam.storage`.

    Raises:
        VerificationError: see above.
    """
    hashes = {"weights": ("weights_sha256", weights), "description": ("description_sha256", description)}
    for what, (name, now) in hashes.items():
        if record.get(name) != now:
            raise VerificationError(
                f"verify: expected the model of the certificate, whose {what} have SHA-256 {record.get(name)}, "
                f"got one with {now}; name the run that was certified"
            )


def photographs_of(record: Mapping[str, Any], table: ImageTable) -> Photographs:
    """The photographs of a table whose bytes the record names, whatever their files are called now.

    Raises:
        VerificationError: some of them are not there.
    """
    wanted = {photograph["sha256"]: photograph["name"] for photograph in record["photographs"]}
    found = distinct(table, refuse_copies=False).only(wanted)
    missing = [wanted[digest] for digest in wanted.keys() - {fact.sha256 for fact in found.facts}]
    if missing:
        raise VerificationError(
            f"verify: expected the {len(wanted)} photographs of the certificate, {len(missing)} of them are not here "
            f"as they were, the first is {min(missing)}; name the folder that holds them unchanged"
        )
    return found


def differences(record: Mapping[str, Any], found: Certificate) -> dict[str, tuple[Any, Any]]:
    """The numbers and verdicts that are not as in the record: name to (then, now)."""
    now = _flat({name: value for name, value in found.to_dict().items() if name not in ("photographs", "setting")})
    then = _flat({name: record.get(name) for name in found.to_dict()})
    return {name: (then.get(name), value) for name, value in now.items() if then.get(name) != value}


def require_same_findings(changed: Mapping[str, tuple[Any, Any]]) -> None:
    """Refuse differences that another machine's rounding does not explain.

    Raises:
        VerificationError: a verdict changed, or a number by more than 0.01.
    """
    for name, (then, now) in changed.items():
        if not _is_rounding(name, then, now):
            raise VerificationError(
                f"verify: expected what the certificate says, {name} = {then}, got {now}; the certificate was not made "
                "of this model on these photographs as it says"
            )


def _is_rounding(name: str, then: Any, now: Any) -> bool:
    """Sizes of changed logits, and bits and p-values where pixels do count, follow every rounding."""
    if name in VERDICTS or (name.startswith("outside.") and name.endswith(".bits")):
        return False
    if name.endswith((".largest", ".bits", ".p_value")):
        return True
    numbers = isinstance(then, int | float) and isinstance(now, int | float)
    tolerance = 1 if name.endswith("images") else ROUNDING
    return numbers and not isinstance(now, bool) and abs(then - now) <= tolerance


def _flat(values: Any, name: str = "") -> dict[str, Any]:
    if isinstance(values, Mapping):
        pairs = [_flat(value, f"{name}.{key}" if name else str(key)) for key, value in values.items()]
        return {key: value for each in pairs for key, value in each.items()}
    return {name: list(values) if isinstance(values, tuple) else values}
