"""Models on a hub: what `ifam.load` reads from ``hf:owner/name``, `push_to_hub` writes there."""

import copy
from pathlib import Path
from tempfile import TemporaryDirectory

from ifam.errors import HubError, UsageError, first_line
from ifam.files import write_text
from ifam.model.base import Classifier
from ifam.model.masked import MaskedClassifier
from ifam.model_card import CARD, HERE, model_card
from ifam.storage import load, save


def push_to_hub(
    model: Classifier | str | Path,
    repository: str,
    *,
    private: bool = False,
    license: str | None = None,
    message: str = "Upload a model of ifam",
) -> str:
    """Upload a model, or that of a run folder, to ``owner/name`` on the Hugging Face hub; returns the page's address.

    Three files go there: ``model.safetensors``, ``model.json``, and as ``README.md`` the card of the run folder, or a
    new one. Checkpoints, settings and metrics of the run stay where they are. ``license``: as the hub names it
    ("apache-2.0"), for the card. The login is that of ``hf auth login``, or the variable ``HF_TOKEN``.

    Raises:
        UsageError: no such name can be.
        CheckpointError: the folder holds no whole model.
        HubError: no network, no login, or no right to write there.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise UsageError(f"repository: expected owner/name, got {repository!r}: {first_line(error)}") from error
    card = None if isinstance(model, Classifier) else Path(model) / CARD
    model = model if isinstance(model, Classifier) else load(model)
    with TemporaryDirectory() as folder:
        write_shared(model, card, Path(folder), repository, license)
        try:
            api = HfApi()
            page = api.create_repo(repository, private=private, exist_ok=True)
            api.upload_folder(repo_id=repository, folder_path=folder, commit_message=message)
        except Exception as error:  # of the hub, of its HTTP library, or of the system
            raise HubError(
                f"hf:{repository}: expected to upload a model, could not: {first_line(error)}; check the network, and "
                "the login (hf auth login, or HF_TOKEN)"
            ) from error
    return str(page)


def write_shared(model: Classifier, card: Path | None, folder: Path, repository: str, license: str | None) -> None:
    """The folder that is uploaded. ``card``: where the run's own may be."""
    from huggingface_hub import ModelCard

    if isinstance(model, MaskedClassifier):
        model = copy.copy(model)
        model.masks = Path(model.masks).name  # which may be a folder of this machine
    save(model, folder)
    text = card.read_text(encoding="utf-8") if card is not None and card.is_file() else model_card(model)
    text = text.replace(HERE, f"hf:{repository}")
    if license is not None:
        changed = ModelCard(text)
        changed.data["license"] = license
        text = str(changed)
    write_text(folder / CARD, text)
