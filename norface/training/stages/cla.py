"""Stage `cla`: the classifier F_cla on original and normalized faces of one fold (eq. 11-13)."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from norface.data.folds import class_weights
from norface.data.loader import (
    GlobalBatchSampler,
    batches_once,
    build_loader,
    every_sample_once,
)
from norface.data.streams import FaceStreams, StreamDataset, find_tested, refuse_both
from norface.errors import ConfigError, CorpusError
from norface.evaluation.confusion import draw_confusions
from norface.evaluation.predictions import require_keys, tabulate
from norface.evaluation.statistics import MAIN_METRIC
from norface.evaluation.summary import score_table
from norface.images import make_grid, to_image, unpack_images
from norface.losses.classification import (
    detection_loss,
    emotion_loss,
    emotion_weights,
    intensity_loss,
    router_losses,
)
from norface.models.classifier import (
    Classifier,
    TokenExtractor,
    load_classifier,
    save_classifier,
    to_scores,
)
from norface.models.moe import RouterStatistics
from norface.models.weights import load_encoder_weights
from norface.training.backends.base import Backend
from norface.training.seeding import sample_normal
from norface.training.stage import Stage
from norface.training.stages.cla_config import (
    ClaConfig,
    check_labels,
    choose_targets,
    read_labels,
)
from norface.training.stages.cla_cost import count_operations
from norface.training.stages.cla_folds import choose_fold, find_sets, open_index
from norface.training.stages.cla_rates import group_parameters

TASK_LOSS = {"au": detection_loss, "intensity": intensity_loss, "emotion": emotion_loss}
WEIGHTS_FILE = "classifier.safetensors"

_log = logging.getLogger(__name__)


class ClaStage(Stage):
    """Trains F_cla on the train subjects of a fold; `predict` answers for its test subjects."""

    name = "cla"

    def __init__(self, config: ClaConfig, backend: Backend):
        self.config, self.backend = config, backend
        data = config.data
        refuse_both(data.normalized, data.features)
        index = open_index(data)
        self.fold = choose_fold(data, index)
        self.targets = choose_targets(config, index)
        self.labels = read_labels(config.task, self.targets, index)
        self.streams = FaceStreams(
            index,
            normalized=find_sets(data.normalized, data.fold),
            features=data.features,
            test=self.fold.test,
            protocol=data.protocol,
            side=config.model.side,
            decoded=data.decoded_folder,
        )
        # The paper chooses no epoch, so its validation subjects are free to train on.
        paper = data.protocol == "paper"
        validation = [] if paper else self.fold.validation
        train = [*self.fold.train, *self.fold.validation] if paper else self.fold.train
        self.rows = {
            "train": self.streams.index.rows_of_persons(train),
            "validation": self.streams.index.rows_of_persons(validation),
            "test": self.streams.index.rows_of_persons(self.fold.test),
        }
        for part, rows in self.rows.items():
            if len(rows) and part != "test":
                absent = check_labels(
                    self.labels[rows], self.targets, config.task, part=part, fold=self.fold.name
                )
                if absent and part == "train":
                    _log.warning(
                        "fold '%s': %s never occur among its %s subjects",
                        self.fold.name, ", ".join(absent), part,
                    )  # fmt: skip
        self._build_model()
        self.sampler = self._make_sampler(0)
        self.steps_per_epoch = self.sampler.steps_per_epoch
        self.total_steps: int = config.epochs * self.steps_per_epoch
        self.evaluate_every_steps = self.steps_per_epoch
        self.best_metric, self.best_step = -float("inf"), 0
        self.best_weights: dict[str, torch.Tensor] = {}

    def _build_model(self) -> None:
        config, features = self.config, self.streams.features
        model = Classifier(
            config.model,
            outputs=len(self.targets),
            image_streams=self.streams.count,
            feature_width=0 if features is None else features.shape[1],
        ).to(memory_format=torch.channels_last)
        train = self.rows["train"]
        if model.adapter is not None and features is not None:
            model.adapter.fit(torch.from_numpy(features[train]))
        if model.centre is not None:
            some = train[np.linspace(0, len(train) - 1, min(len(train), 1000)).astype(int)]
            model.centre.fit(to_image(np.stack([self.streams.read(int(row)) for row in some])))
        if config.model.extractor_weights is not None:
            self._start_extractor(model, config.model.extractor_weights)
        self.model = self.backend.prepare(model)
        self.bare: Classifier = self.backend.unwrap(self.model)  # type: ignore[assignment]
        self.class_weights = None
        if config.losses.class_weights:
            known = self.labels[train]
            if config.task == "emotion":
                found = emotion_weights(torch.from_numpy(known), len(self.targets))
            else:
                found = torch.from_numpy(class_weights(known)).float()
            self.class_weights = found.to(self.backend.device)
        optimizer = torch.optim.AdamW(
            group_parameters(self.bare, config.optimizer),
            lr=config.optimizer.learning_rate,
            betas=config.optimizer.betas,
        )
        self.optimizer = self.backend.prepare_optimizer(optimizer, self.model)

    def _start_extractor(self, model: Classifier, path: Path) -> None:
        """Give E_f weights that were trained before. Raises ConfigError, WeightsError, and
        CorpusError where their card says that they were trained on faces of a test subject."""
        if not isinstance(model.extractor, TokenExtractor):
            raise ConfigError("model.extractor_weights: only for model.extractor=vit")
        report = load_encoder_weights(model.extractor.encoder, path, key="model.vit")
        self.notes += (str(report),)
        seen = find_tested(report.card.persons if report.card else (), self.fold.test)
        if seen and self.config.data.protocol == "strict":
            raise CorpusError(
                f"{path}: was trained on faces of {len(seen)} test subjects, the first being"
                f" {seen[0]}; leave them out there, or choose data.protocol=paper"
            )

    def _make_sampler(self, start_step: int) -> GlobalBatchSampler:
        return GlobalBatchSampler(
            len(self.rows["train"]),
            batch_per_rank=self.config.trainer.batch_per_rank,
            rank=self.backend.rank,
            world_size=self.backend.world_size,
            seed=self.config.seed,
            start_step=start_step,
            partners=self.config.mix.on,
        )

    def _dataset(self, part: str, *, augmented: bool) -> StreamDataset:
        rows = self.rows[part]
        if self.config.data.cache:
            self.streams.cache(rows.tolist())
        return StreamDataset(
            self.streams,
            rows,
            self.labels,
            seed=self.config.seed,
            augment=self.config.augment if augmented else None,
            mix=self.config.mix if augmented else None,
            classes=len(self.targets) if self.config.task == "emotion" else 0,
        )

    def batches(self, start_step: int) -> Iterator[dict[str, Any]]:
        dataset = self._dataset("train", augmented=True)
        sampler, workers = self._make_sampler(start_step), self.config.data.workers
        yield from build_loader(dataset, sampler, workers=workers)

    def train_batch(self, batch: dict[str, Any], step: int) -> dict[str, torch.Tensor]:
        rate = self.config.optimizer.learning_rate
        rate *= self.config.schedule.factor(step, self.total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        self.bare.train()
        noise = sample_normal(
            self.config.seed,
            batch["epoch"].tolist(),
            batch["position"].tolist(),
            "router",
            self.bare.router_shape,
        )
        logits, routers = self._answer(self.model, batch, noise.to(self.backend.device))
        terms = self._losses(logits, routers, batch["label"].to(self.backend.device))
        self.optimizer.descend(terms["loss"])
        measured = {name: value.detach() for name, value in terms.items()}
        return {**measured, "lr": torch.tensor(rate)}

    def _answer(
        self, model: torch.nn.Module, batch: dict[str, Any], noise: torch.Tensor | None
    ) -> tuple[torch.Tensor, list[RouterStatistics]]:
        images = unpack_images(batch["images"], self.backend.device).unbind(dim=1)
        features = batch["features"].to(self.backend.device)
        with self.backend.autocast():
            return model(images, features, noise)

    def _losses(
        self, logits: torch.Tensor, routers: list[RouterStatistics], labels: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Equation (11) over the global batch: every rank computes all of it from gathered rows."""
        gather, weights = self.backend.gather_rows, self.config.losses
        task_loss = TASK_LOSS[self.config.task]
        terms = {"cla": task_loss(gather(logits.float()), gather(labels), self.class_weights)}
        whole = [RouterStatistics(gather(r.probabilities), gather(r.gates)) for r in routers]
        terms |= router_losses(whole)
        loss = terms["cla"]
        if whole:
            loss = loss + weights.importance * terms["imp"]
            for name, used in (("global", weights.use_global), ("local", weights.use_local)):
                loss = loss + weights.global_local * used * terms[name]
        return {**terms, "loss": loss}

    def evaluate(self, step: int) -> dict[str, float]:
        if not len(self.rows["validation"]):
            return {}
        metric = MAIN_METRIC[self.config.task]
        self.validated = self.predict("validation")
        found = score_table(self.validated, self.config.task)
        value = found[metric]["mean"]
        if value > self.best_metric:
            self.best_metric, self.best_step = value, step
            self.best_weights = copy.deepcopy(self._weights())
        return {name: values["mean"] for name, values in found.items()}

    def figures(self) -> dict[str, np.ndarray]:
        if not len(self.rows["validation"]):
            return {}
        return {"confusion": draw_confusions(self.validated, self.config.task)}

    def answers(
        self, part: str
    ) -> Iterator[tuple[np.ndarray, torch.Tensor, list[RouterStatistics]]]:
        """(rows, logits, routers) of this rank's share of a part, a batch at a time."""
        mine = every_sample_once(len(self.rows[part]), self.backend.rank, self.backend.world_size)
        dataset, batch = self._dataset(part, augmented=False), self.config.trainer.batch_per_rank
        loader = build_loader(
            dataset, batches_once(mine, batch=max(batch, 32)), workers=self.config.data.workers
        )
        model = self.backend.whole(self.model).eval()
        for read in loader:
            with torch.no_grad():
                logits, routers = self._answer(model, read, None)
            yield read["row"].numpy(), logits.float(), routers

    def predict(self, part: str = "test") -> pd.DataFrame:
        """Predictions of every sample of a part exactly once, the same on all ranks."""
        rows = self.rows[part]
        found, scores = [np.zeros(0, np.int64)], [np.zeros((0, len(self.targets)), np.float32)]
        for some, logits, _ in self.answers(part):
            found.append(some)
            scores.append(to_scores(logits, self.config.task).cpu().numpy())
        gathered = self.backend.gather_objects((np.concatenate(found), np.concatenate(scores)))
        every_row = np.concatenate([part_rows for part_rows, _ in gathered])
        table = self._tabulate(
            every_row, np.concatenate([part_scores for _, part_scores in gathered])
        )
        require_keys(
            table, list(self.streams.index.table["key"].iloc[rows]), f"fold {self.fold.name}"
        )
        return table

    def _tabulate(self, rows: np.ndarray, scores: np.ndarray) -> pd.DataFrame:
        truth = self.labels[rows]
        if self.config.task == "emotion":
            classes = np.eye(len(self.targets))[truth]
            truth = np.where(truth[:, None] >= 0, classes, np.nan)
        people = self.streams.index.table.iloc[rows]
        return tabulate(
            keys=list(people["key"]),
            subjects=list(people["subject"].astype(str)),
            fold=self.fold.name,
            targets=self.targets,
            truth=truth,
            scores=scores,
        )

    def _weights(self) -> dict[str, torch.Tensor]:
        weights = self.backend.whole(self.model).state_dict()
        return {name: tensor.detach().cpu() for name, tensor in weights.items()}

    def count_operations(self) -> float:
        return count_operations(self.bare)

    def state_dict(self) -> dict[str, Any]:
        models = {"classifier": self._weights()}
        if self.best_weights:
            models["best"] = self.best_weights
        return {
            "models": models,
            "optimizers": {"classifier": self.optimizer.state_dict()},
            "extra": {"best_metric": self.best_metric, "best_step": self.best_step},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.backend.load_weights(self.model, state["models"]["classifier"])
        self.best_weights = state["models"].get("best", {})
        self.optimizer.load_state_dict(state["optimizers"]["classifier"])
        self.best_metric = state["extra"]["best_metric"]
        self.best_step = state["extra"]["best_step"]

    def load_exported(self, folder: Path) -> None:
        """Take the weights that `export` wrote into a run folder. Raises WeightsError."""
        model, _ = load_classifier(folder / WEIGHTS_FILE)
        self.backend.load_weights(self.model, model.state_dict())

    def export(self, folder: Path) -> None:
        about = {
            "task": self.config.task,
            "targets": self.targets,
            "fold": self.fold.name,
            "side": self.config.model.side,
            "normalized": [source.model_dump() for source in self.streams.sources],
            "chosen_step": self.best_step if self.best_weights else self.total_steps,
        }
        weights = self.best_weights or self._weights()
        whole: Classifier = self.backend.whole(self.model)  # type: ignore[assignment]
        save_classifier(folder / WEIGHTS_FILE, whole, weights, about)

    def sample_grid(self) -> np.ndarray | None:
        """Six test faces in a row, the streams below one another: what the classifier is given."""
        rows = self.rows["test"][:: max(1, len(self.rows["test"]) // 6)][:6]
        return make_grid(list(zip(*[self.streams.read(int(row)) for row in rows], strict=True)))
