"""Files of small networks with fresh weights."""

import torch

from norface.data.normalized import digest_pixels
from norface.files import file_sha256
from norface.images import read_photo, resize_pixels
from norface.models.classifier import Classifier, ClassifierConfig, save_classifier
from norface.models.normalizer import Normalizer, NormalizerConfig, save_generator

GENERATOR = {
    "encoder": {"side": 32, "patch": 4, "width": 16, "depth": 1, "heads": 2},
    "merging": {"heads": 2, "blocks": 1},
    "decoder": {"channels": [16, 8, 8], "convolutions": 1, "upsampling": "shuffle"},
}
CLASSIFIER = {
    "extractor": "conv",
    "conv": {"side": 32},
    "moe": {"hidden_ratio": 1},
}
TARGETS = {
    "au": ["AU1", "AU12", "AU25"],
    "intensity": ["AU12", "AU26"],
    "emotion": ["neutral", "happiness", "sadness"],
}


def write_generator(path, *, person="S9"):
    torch.manual_seed(0)
    model = Normalizer(NormalizerConfig.model_validate(GENERATOR))
    save_generator(model, path, persons=[("synthetic", person)])
    return path


def write_classifier(path, task, *, streams, generator=None, target=None):
    """`generator` and `target`: files of those that its normalized stream is said to come from."""
    torch.manual_seed(1)
    targets = TARGETS[task]
    model = Classifier(
        ClassifierConfig.model_validate(CLASSIFIER), outputs=len(targets), image_streams=streams
    )
    sources = []
    if streams > 1:
        picture = resize_pixels(read_photo(target), GENERATOR["encoder"]["side"])
        name = file_sha256(generator)[:12]
        one = {"generators": [name], "target": "rest", "picture": digest_pixels(picture)}
        sources = [one] * (streams - 1)
    about = {"task": task, "targets": targets, "normalized": sources}
    save_classifier(path, model, model.state_dict(), about)
    return path
