"""Files of small networks with fresh weights."""

import torch

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


def write_generator(path):
    torch.manual_seed(0)
    save_generator(
        Normalizer(NormalizerConfig.model_validate(GENERATOR)), path, persons=[("synthetic", "S9")]
    )
    return path


def write_classifier(path, task, *, streams):
    torch.manual_seed(1)
    targets = TARGETS[task]
    model = Classifier(
        ClassifierConfig.model_validate(CLASSIFIER), outputs=len(targets), image_streams=streams
    )
    about = {"task": task, "targets": targets}
    save_classifier(path, model, model.state_dict(), about)
    return path
