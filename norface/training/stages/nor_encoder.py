"""What F_nor's encoder starts from: a transformer's weights, or the reader of synthetic faces."""

from __future__ import annotations

from pathlib import Path

from norface.critics.base import CriticChoice, find_weights
from norface.data.shards import Person
from norface.errors import ConfigError
from norface.models.face_networks import load_face_network
from norface.models.normalizer import Normalizer
from norface.models.reader_encoder import ReaderEncoder
from norface.models.vit import FaceEncoder
from norface.models.weights import load_encoder_weights


def start_encoder(
    generator: Normalizer, weights: Path | str
) -> tuple[tuple[str, ...], set[Person]]:
    """Give E_s weights that were trained before.

    Returns what to say about it, and the persons that they were trained on. Raises ConfigError,
    WeightsError.
    """
    if isinstance(generator.encoder, FaceEncoder):
        if weights == "packaged":
            raise ConfigError(
                "encoder_weights: no transformer comes with the package; give a file of"
                " `norface train mae`, MAE or MAE-Face, or normalizer.encoder.kind=reader"
            )
        report = load_encoder_weights(generator.encoder, Path(weights), key="normalizer.encoder")
        # Whom the encoder saw, the generator saw.
        return (str(report),), set(report.card.persons if report.card else ())
    assert isinstance(generator.encoder, ReaderEncoder)
    choice = CriticChoice(weights=None if weights == "packaged" else Path(weights))
    path = find_weights(choice, "reader.safetensors", "`norface train critic` makes one")
    reader = load_face_network(path)
    wanted = generator.encoder.config.reader
    if reader.config.model_dump(exclude={"seed"}) != wanted.model_dump(exclude={"seed"}):
        raise ConfigError(
            f"encoder_weights: {path} holds a network of other sizes than"
            f" normalizer.encoder.reader; set it to {reader.config.model_dump_json()}"
        )
    generator.encoder.reader.load_state_dict(reader.state_dict())
    return (), set()
