"""Where the weights of a backbone come from, as their own metadata say: never a guess."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

NOT_KNOWN = "not known"
_SPELLINGS = {"licence": "license"}


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What is known of pretrained weights; None for what is not."""

    title: str | None = None
    source: str | None = None
    license: str | None = None

    @classmethod
    def of_metadata(cls, metadata: Mapping[str, object]) -> "Origin":
        """What a weights file says of itself, under the keys title, source, and license or licence."""
        said = {_SPELLINGS.get(key, key): value for key, value in metadata.items()}
        known = {key: value for key, value in said.items() if key in cls.__dataclass_fields__}
        return cls(**{key: value for key, value in known.items() if isinstance(value, str) and value.strip()})

    def known(self) -> dict[str, str]:
        """Plain values by name, of what is known."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    def __str__(self) -> str:
        named = ": ".join(part for part in (self.title, self.source) if part)
        return f"weights: {named or NOT_KNOWN}; licence: {self.license or NOT_KNOWN}"


UNKNOWN = Origin()
