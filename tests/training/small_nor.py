"""A small stage `nor`: networks, faces and judges that take a step in no time."""

import json

import numpy as np
from safetensors.torch import save_file

from norface.data.records import FaceRecord
from norface.data.shards import ShardWriter
from norface.images import encode_jpeg
from norface.models.face_networks import FaceNetworkConfig, build_face_network
from norface.synthetic.version import ANY_RENDERER
from norface.training.stages.nor import NorConfig

SIDE = 32
NETWORKS = {
    "normalizer": {
        "encoder": {"side": SIDE, "patch": 8, "width": 16, "depth": 1, "heads": 2},
        "merging": {"heads": 2, "blocks": 1},
        "decoder": {"channels": [16, 8, 8, 8], "convolutions": 1, "upsampling": "shuffle"},
    },
    "discriminator": {"channels": [8, 8]},
}
WEIGHTS = {"adv": 1, "rec": 10, "perc": 1, "id": 1, "lm": 10, "exp": 10, "eye": 0}


def write_faces(folder, subjects=3, frames=4, clip="c"):
    rng = np.random.default_rng(0)
    with ShardWriter(folder, side=SIDE, samples_per_shard=5) as writer:
        for number in range(subjects * frames):
            pixels = rng.integers(0, 256, (SIDE // 4, SIDE // 4, 3), np.uint8)
            writer.write(
                FaceRecord(
                    corpus="synthetic",
                    subject=f"S{number // frames}",
                    clip=clip,
                    frame=number % frames,
                    image=encode_jpeg(pixels.repeat(4, 0).repeat(4, 1)),
                )
            )
    return folder


def write_critic(folder, kind):
    """An untrained network in the file format of stage `critic`."""
    config = FaceNetworkConfig(
        kind=kind, side=SIDE, channels=(4, 8), blocks=(0, 0), hidden=8, embedding=8
    )
    settings = {"network": json.dumps(config.model_dump(mode="json")), "renderer": ANY_RENDERER}
    save_file(build_face_network(config).state_dict(), folder / kind, settings)
    return {"source": "synthetic", "weights": str(folder / kind)}


def write_config_parts(folder):
    """Shards, judges and sizes of networks, written below `folder`: values of NorConfig."""
    shards = write_faces(folder / "faces")
    reader, identity = write_critic(folder, "reader"), write_critic(folder, "identity")
    critics = dict.fromkeys(("landmarks", "expression", "eyebrow"), reader)
    critics |= dict.fromkeys(("identity", "perceptual"), identity)
    return {
        "data": {"shards": [str(shards)]},
        "critics": critics,
        "losses": WEIGHTS,
        "trainer": {"images": 64, "batch_per_rank": 4, "log_every_steps": 2},
        "self_pair": 0.5,
        "optimizer": {"learning_rate": 1e-3},
        **NETWORKS,
    }


def config_maker(folder, **always):
    """A function that gives a NorConfig of these parts with changes."""
    values = write_config_parts(folder) | always
    return lambda **changes: NorConfig.model_validate(values | changes)
