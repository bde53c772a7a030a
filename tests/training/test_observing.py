"""What metrics.jsonl says of the machine, the profile, and the operations of a picture."""

from __future__ import annotations

import json
import time

import pytest
import torch
from ranks import finish, tiny_config
from tiny import TinyStage

from norface.config import load_config
from norface.models.classifier import Classifier, ClassifierConfig
from norface.tracking import MEASURED, read_metrics
from norface.training.observing import measure_matmul_rate
from norface.training.run import run_stage
from norface.training.stages.cla_cost import count_operations as count_cla
from norface.training.stages.nor_config import NorConfig
from norface.training.stages.nor_cost import count_operations as count_nor


class Heavy(TinyStage):
    """Reads for a fifth of its time, and says that a picture needs 10^6 operations."""

    def batches(self, start_step):
        for batch in super().batches(start_step):
            time.sleep(0.02)
            yield batch

    def count_operations(self):
        return 1e6


def test_every_line_says_how_the_machine_was(tmp_path):
    config = tiny_config(tmp_path, "slow_s=0.08", "trainer.images=96", "trainer.batch_per_rank=4")
    finish(config, 2, stage=Heavy)
    lines = read_metrics(tmp_path / "run")
    assert set(MEASURED) - {"gpu_memory_gb"} <= set(lines[-1])
    for line in lines:
        # Eight in a tenth of a second at most; a busy machine is slower, in either part.
        assert 0 < line["images_per_second"] < 80
        assert 0.01 < line["data_wait_share"] < 0.9
        # A million operations a picture, and a matrix product does some 10^9 to 10^12 a second.
        assert 1e-8 < line["useful_flops_share"] < 0.2
        assert 0.05 < line["memory_gb"] < 8
    # Saved at steps 7 and 12; the second after the last line.
    assert [line["save_share"] > 0 for line in lines] == [False, True, False]


def test_operations_that_nobody_counted_are_left_out(tmp_path):
    folder = run_stage(TinyStage, tiny_config(tmp_path, "trainer.images=64"))
    assert all("useful_flops_share" not in line for line in read_metrics(folder))


def test_rate_of_matrix_products_is_that_of_a_plain_measurement():
    rate = measure_matmul_rate(torch.device("cpu"), torch.float32)
    one = torch.rand(512, 512)
    started = time.perf_counter()
    for _ in range(8):
        one @ one
    plain = 8 * 2 * 512**3 / (time.perf_counter() - started)
    assert plain / 8 < rate < plain * 8


def test_a_profile_is_a_trace_and_a_table_and_changes_nothing(tmp_path):
    plain = run_stage(TinyStage, tiny_config(tmp_path / "plain"))
    watched = run_stage(
        TinyStage,
        tiny_config(tmp_path / "watched", "trainer.profile={start_step: 8, steps: 2}"),
    )
    names = [path.name for path in sorted((watched / "profile").iterdir())]
    assert names == ["step-00000008-rank-0.json", "step-00000008-rank-0.txt"]
    events = json.loads((watched / "profile" / names[0]).read_text())["traceEvents"]
    # Two layers a step, in two steps.
    assert sum(event.get("name") == "aten::addmm" for event in events) == 4
    assert "aten::addmm" in (watched / "profile" / names[1]).read_text()
    weights = [(folder / "tiny.safetensors").read_bytes() for folder in (plain, watched)]
    assert weights[0] == weights[1]
    assert not (plain / "profile").exists()


def test_the_profile_is_that_of_one_rank(tmp_path):
    config = tiny_config(
        tmp_path, "trainer.images=80", "trainer.batch_per_rank=4",
        "trainer.profile={start_step: 2, steps: 1, rank: 1}",
    )  # fmt: skip
    finish(config, 2)
    assert (tmp_path / "run" / "profile" / "step-00000002-rank-1.json").exists()
    assert len(list((tmp_path / "run" / "profile").glob("*.json"))) == 1


@pytest.mark.parametrize(("experts", "top_k"), [(4, 2), (0, 2)])
def test_operations_of_the_classifier_are_those_of_its_products(experts, top_k):
    config = ClassifierConfig.model_validate(
        {
            "extractor": "conv",
            "conv": {"side": 16, "channels": [8], "width": 8},
            "moe": {"experts": experts, "top_k": top_k, "hidden_ratio": 2},
        }
    )
    model = Classifier(config, outputs=3, image_streams=2)
    bare = Classifier(
        config.model_copy(update={"input_moe": False, "output_moe": False}),
        outputs=3,
        image_streams=2,
    )
    # Two input blocks of width 8, an output block of 16; experts of twice the width; routers.
    chosen = top_k if experts else 1
    products = sum(chosen * 2 * w * 2 * w + 2 * w * experts for w in (8, 8, 16))
    assert count_cla(model) - count_cla(bare) == 3 * 2 * products


def test_operations_of_the_generator_do_not_grow_with_what_is_computed_twice():
    small = "normalizer.encoder={side: 64, patch: 16, width: 24, depth: 2, heads: 2}"
    words = ["data.shards=[x]", small]
    plain = count_nor(load_config(NorConfig, None, words))
    assert plain > 0
    again = [*words, "gradient_checkpointing=true"]
    assert count_nor(load_config(NorConfig, None, again)) == plain
    alone = [*words, "losses.adv=null"]
    assert count_nor(load_config(NorConfig, None, alone)) < plain
