"""The trained generator over shards: every face onto one target, as shards again.

    folder = normalize_shards(
        "generator.safetensors", "shards/bp4d", "normalized/bp4d", target_key="bp4d_F001_T1_12"
    )

The set lies in OUT/TARGET/GENERATOR (GENERATOR = first 12 hex digits of the generator file's
sha256) with the keys, labels and shard numbers of its source. A shard appears under its name only
when it is whole, so a killed job loses one at most and a rerun skips what is there. Jobs share the
work by `part`: 3/16 takes every 16th shard from the third on; the one that finds all shards whole
writes the index.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from norface.data.indexing import hand_on_marker
from norface.data.normalized import NormalizedSet, claim_set
from norface.data.parts import parse_part
from norface.data.records import FaceRecord
from norface.data.shards import ShardFile, ShardIndex, write_index
from norface.errors import ConfigError
from norface.files import file_sha256
from norface.images import (
    decode_jpeg,
    encode_jpeg,
    resize_pixels,
    to_image,
    to_pixels,
)
from norface.models.normalizer import Normalizer, load_generator
from norface.progress import Progress
from norface.targets import check_file, check_row, read_aligned


@dataclasses.dataclass(frozen=True)
class Plan:
    """What one job has to do."""

    index: ShardIndex
    "The source."
    model: Normalizer
    target: np.ndarray
    "Pixels (S, S, 3) of the target, S the generator's side."
    card: NormalizedSet
    folder: Path
    "Where the set lies."
    shards: list[str]
    "File names of this part, in order."

    @property
    def pending(self) -> list[str]:
        """Shards of this part that are not there yet."""
        return [shard for shard in self.shards if not (self.folder / shard).is_file()]


def normalize_shards(
    generator_path: str | Path,
    source: str | Path,
    out: str | Path,
    *,
    target_key: str | None = None,
    target_image: str | Path | None = None,
    target_shards: str | Path | None = None,
    check_target: bool = True,
    part: str = "1/1",
    batch: int = 32,
    device: torch.device | str = "cpu",
) -> Path:
    """Write one part of a normalized set; returns the set's folder. See `make_plan`."""
    plan = make_plan(
        generator_path, source, out, target_key=target_key, target_image=target_image,
        target_shards=target_shards, check_target=check_target, part=part, device=device,
    )  # fmt: skip
    run_plan(plan, batch=batch)
    return plan.folder


def make_plan(
    generator_path: str | Path,
    source: str | Path,
    out: str | Path,
    *,
    target_key: str | None = None,
    target_image: str | Path | None = None,
    target_shards: str | Path | None = None,
    check_target: bool = True,
    part: str = "1/1",
    device: torch.device | str = "cpu",
) -> Plan:
    """Load what a job needs, without writing.

    The target is a key of `target_shards` (None = the source) or an aligned square picture file;
    `check_target` refuses one without a face or with an active unit (norface.targets).
    Raises ConfigError, CorpusError, WeightsError.
    """
    index = ShardIndex.open(source)
    shards = choose_shards(index, part)
    model, card = load_generator(generator_path, device)
    name, target = read_target(
        index if target_shards is None else ShardIndex.open(target_shards),
        key=target_key,
        image=target_image,
        side=card.side,
        checked_for={corpus for corpus, _ in card.persons} if check_target else None,
    )
    identity = NormalizedSet(
        target=name,
        generator=file_sha256(generator_path)[:12],
        trained_on=card.persons,
        source=index.digest,
        side=card.side,
    )
    folder = Path(out) / name / identity.generator
    return Plan(index, model, target, identity, folder, shards)


def run_plan(plan: Plan, *, batch: int) -> None:
    """Write the pending shards of the plan, and the index once all shards of the set are there."""
    claim_set(plan.folder, plan.card, plan.target)
    rows = rows_by_shard(plan.index)
    total = sum(len(rows[shard]) for shard in plan.shards)
    done = total - sum(len(rows[shard]) for shard in plan.pending)
    device = next(plan.model.parameters()).device
    with torch.inference_mode(), Progress("normalize", total, done=done) as progress:
        picture = to_image(plan.target)[None].to(device)
        target = (plan.model.encode(picture), picture)
        for shard in plan.pending:
            with ShardFile(plan.folder / shard, side=plan.card.side) as file:
                for start in range(0, len(rows[shard]), batch):
                    chosen = rows[shard][start : start + batch]
                    records = [plan.index.read_record(int(row)) for row in chosen]
                    for record, pixels in normalize_records(plan.model, records, target):
                        file.write(dataclasses.replace(record, image=encode_jpeg(pixels)))
                    progress.advance(len(records))
    if all((plan.folder / shard).is_file() for shard in rows):
        hand_on_marker(plan.index.folders, plan.folder)
        write_index(plan.folder)


def normalize_records(
    model: Normalizer, records: Sequence[FaceRecord], target: tuple[torch.Tensor, torch.Tensor]
) -> Iterator[tuple[FaceRecord, np.ndarray]]:
    """Records and their normalized pixels (S, S, 3).

    `target`: tokens (1, P, L) and picture (1, 3, S, S), -1..1, of the target.
    """
    side, count = model.config.side, len(records)
    tokens, picture = target
    originals = torch.stack([read_original(record, side) for record in records]).to(tokens.device)
    faces = model.merge_decode(
        model.encode_original(originals),
        tokens.expand(count, -1, -1),
        picture.expand(count, -1, -1, -1),
    )
    for record, normalized in zip(records, to_pixels(faces), strict=True):
        # Landmarks and pose were the original's and are no longer true; labels still are.
        yield dataclasses.replace(record, landmarks=None, pose=None), normalized


def read_original(record: FaceRecord, side: int) -> torch.Tensor:
    """The picture (3, side, side), -1..1, of a record that was read from a shard."""
    assert isinstance(record.image, bytes)
    return to_image(resize_pixels(decode_jpeg(record.image, record.key), side))


def read_target(
    index: ShardIndex,
    *,
    key: str | None,
    image: str | Path | None,
    side: int,
    checked_for: Collection[str] | None,
) -> tuple[str, np.ndarray]:
    """Name and pixels (side, side, 3) of the target; exactly one of `key` and `image` is given.

    `checked_for`: corpora of the generator, None = the target is not looked at.
    """
    if key is not None and image is None:
        if checked_for is not None:
            check_row(index, key)
        return key, resize_pixels(index.read_pixels(index.row_of(key)), side)
    if image is None or key is not None:
        raise ConfigError("target: set exactly one of target_key and target_image")
    pixels = read_aligned(image)
    if checked_for is not None:
        check_file(image, pixels, checked_for)
    return Path(image).stem, resize_pixels(pixels, side)


def choose_shards(index: ShardIndex, part: str) -> list[str]:
    """Shards of a part. Raises ConfigError for a part that is not I/N with 1 <= I <= N."""
    number, count = parse_part(part)
    return list(rows_by_shard(index))[number - 1 :: count]


def rows_by_shard(index: ShardIndex) -> dict[str, np.ndarray]:
    """Shard file name => its rows in their order, names sorted."""
    names = index.table["shard"].astype(str).to_numpy()
    return {str(name): np.flatnonzero(names == name) for name in np.unique(names)}
