"""Trained networks in files: safetensors with a header of JSON, checked on the way in. Nothing in them is executed.

https://huggingface.co/docs/safetensors: eight bytes with the header's length, the header, and then plain numbers.
"""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import BaseModel, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as as_safetensors

from mnist_lab import LabError
from mnist_lab.use.network import SIDE, STRICT, Layer, compute, output_shapes

if TYPE_CHECKING:
    from mnist_lab.use.reading import Reading

FORMAT = 1
LARGEST = 16_000_000  # bytes; step 3's network takes 31,000
PUBLISHED = Path(__file__).with_name("step3.safetensors")
KEY = "mnist_lab"  # of the header among the file's metadata

Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[\w ,.-]{1,100}$")]  # nothing that could end a comment in C, or a tag in HTML


class WeightsError(LabError):
    """A file does not hold a network that can be used here, or a network cannot be written to one."""


class Header(BaseModel):
    """What a file says of its network."""

    model_config = STRICT

    format: Literal[1]
    model: Name  # its class in models.py
    layers: Annotated[list[Layer], Field(min_length=1, max_length=200)]
    classes: Annotated[list[str], Field(min_length=2, max_length=1000)]
    mean: float  # of the pixels in [0, 1]: the network sees (pixel - mean) / std
    std: Annotated[float, Field(gt=0)]
    recipe: dict[str, str | int | float | bool]
    seed: int
    data: Name
    train_images: int
    scored_on: Literal["test", "held-out"]
    scored_images: int
    accuracy: Share  # on these
    commit: str | None  # of the package that trained it
    sha256: Annotated[str, Field(pattern="^[0-9a-f]*$")] = ""  # of everything else in the file; see checksum


class Network:
    """A network, ready to read images."""

    def __init__(self, header: Header, arrays: dict[str, np.ndarray]):
        """Raises ValueError if arrays and layers do not fit together, or give other than a logit for each class."""
        *_, shape = output_shapes(header.layers, arrays)
        if shape != (len(header.classes),):
            raise ValueError(f"it ends in {shape}, not in {len(header.classes)} classes")
        if not all(array.dtype == np.float32 and np.isfinite(array).all() for array in arrays.values()):
            raise ValueError("its numbers are not all finite and of 32 bits")
        self.header, self.arrays = header, arrays

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Return (N, classes) for ``images`` (N, 28, 28) with pixels in [0, 1], white on black."""
        maps = (np.asarray(images, dtype=np.float32).reshape(-1, 1, SIDE, SIDE) - np.float32(self.header.mean)) / (
            np.float32(self.header.std)
        )
        parts = [maps[start : start + 500] for start in range(0, len(maps), 500)]  # 500 images take 100 MB meanwhile
        return np.concatenate([compute(self.header.layers, self.arrays, part) for part in parts])

    def read(self, picture: str | Path | bytes) -> "list[Reading]":
        """Return the digits in a picture (a file, or its content) from left to right: see :func:`reading.read`."""
        from mnist_lab.use.reading import read

        return read(self, Path(picture) if isinstance(picture, str) else picture)

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Return the softmax of :meth:`logits`."""
        logits = self.logits(images).astype(np.float64)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        return shares / shares.sum(axis=1, keepdims=True)


def load(path: Path = PUBLISHED) -> Network:
    """Return the network in a file, every part of it checked; by default step 3's, as published.

    Raises WeightsError, which says what is wrong with the file.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"it is larger than {LARGEST // 1_000_000} MB")
        with safe_open(path, framework="numpy") as file:
            said = (file.metadata() or {}).get(KEY)
            if said is None:
                raise ValueError("another program wrote it: it does not say how its network is built")
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = read_header(said)
        if header.sha256 != checksum(header, arrays):
            raise ValueError("its checksum is wrong: it is damaged, or someone changed it")
        return Network(header, arrays)
    except SafetensorError as error:
        raise WeightsError(
            f"{path} is no file of weights in safetensors ({error}); pickles, as of torch.save, are never opened"
        ) from None
    except OSError as error:  # a folder's has a text alone
        raise WeightsError(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise WeightsError(f"{path} cannot be used: {error}. Get it again, or train it again") from None


def read_header(text: str) -> Header:
    """Read a header of JSON. Raises ValueError, which says what is wrong with it."""
    try:
        said = json.loads(text)
        if isinstance(said, dict) and said.get("format") != FORMAT:
            raise ValueError(f"it is of format {said.get('format')}, and this version of mnist-lab reads {FORMAT}")
        return Header.model_validate(said)
    except (json.JSONDecodeError, RecursionError):
        raise ValueError("its header is not JSON") from None
    except ValidationError as error:
        problem = error.errors()[0]
        raise ValueError(f"its header has a wrong {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from None


def checksum(header: Header, arrays: dict[str, np.ndarray]) -> str:
    """Return the SHA-256 of all that a file says and holds, but for the checksum itself."""
    found = hashlib.sha256(header.model_dump_json(exclude={"sha256"}).encode())
    for name in sorted(arrays):
        found.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode() + arrays[name].tobytes())
    return found.hexdigest()


def as_bytes(header: Header, arrays: dict[str, np.ndarray]) -> bytes:
    """Return the file of a network, with its checksum."""
    header = header.model_copy(update={"sha256": checksum(header, arrays)})
    return as_safetensors(arrays, metadata={KEY: header.model_dump_json()})
