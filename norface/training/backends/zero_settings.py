"""DeepSpeed's settings: a json of its own keys, into which the run's own are written.

What a json may not say is what the run's config says elsewhere: two places for one number end in
a run that nobody asked for. So the keys below are handed on, and everything else is refused.
"""

from __future__ import annotations

import json
from typing import Any

from norface.errors import ConfigError
from norface.training.backends.base import BackendConfig

SAID_ELSEWHERE = {
    "train_batch_size": "trainer.batch_per_rank and the number of ranks",
    "train_micro_batch_size_per_gpu": "trainer.batch_per_rank",
    "gradient_accumulation_steps": "trainer.batch_per_rank (nothing is accumulated)",
    "gradient_clipping": "the stage's optimizer.clip_norm",
    "optimizer": "the stage's optimizer settings",
    "scheduler": "the stage's schedule",
    "bf16": "backend.precision and backend.weights",
    "fp16": "backend.precision (fp16 is not supported)",
    "torch_autocast": "backend.precision",
    "data_types": "backend.weights",
}
"Keys that a run's config decides; in a json they may only be `auto`."

HANDED_ON = (
    "zero_optimization",
    "communication_data_type",
    "prescale_gradients",
    "gradient_predivide_factor",
    "comms_logger",
    "flops_profiler",
    "wall_clock_breakdown",
    "memory_breakdown",
    "steps_per_print",
    "dump_state",
)

ZERO_HANDED_ON = (
    "stage",
    "allgather_partitions",
    "allgather_bucket_size",
    "reduce_scatter",
    "reduce_bucket_size",
    "overlap_comm",
    "contiguous_gradients",
    "sub_group_size",
    "stage3_max_live_parameters",
    "stage3_max_reuse_distance",
    "stage3_prefetch_bucket_size",
    "stage3_param_persistence_threshold",
    "stage3_model_persistence_threshold",
)
"Sizes and timing. Offloading and quantizing keep states where a checkpoint does not look."


def read_settings(config: BackendConfig) -> dict[str, Any]:
    """What every engine of a run is told, less the clipping. Raises ConfigError in one line."""
    path = config.deepspeed
    found: dict[str, Any] = {}
    if path is not None:
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else f"not json: {error}"
            raise ConfigError(f"backend.deepspeed: {path}: {reason}") from None
        if not isinstance(found, dict):
            raise ConfigError(f"backend.deepspeed: {path}: expected an object of settings")
    kept = {}
    for key, value in found.items():
        if key in SAID_ELSEWHERE:
            if value != "auto":
                raise ConfigError(
                    f"{path}: {key} is said by {SAID_ELSEWHERE[key]}; remove it here or set it to"
                    ' "auto"'
                )
        elif key in HANDED_ON:
            kept[key] = value
        else:
            raise ConfigError(
                f"{path}: {key} is not handed on to DeepSpeed; valid: {', '.join(HANDED_ON)}"
            )
    zero = dict(kept.get("zero_optimization", {}))
    for key in zero:
        if key not in ZERO_HANDED_ON:
            raise ConfigError(
                f"{path}: zero_optimization.{key} is not handed on to DeepSpeed; valid:"
                f" {', '.join(ZERO_HANDED_ON)}"
            )
    zero["stage"] = choose_stage(config, zero.get("stage"))
    if config.weights == "bf16" and zero["stage"] == 0:
        raise ConfigError("backend.weights: bf16 needs backend.zero_stage 1, 2 or 3; found 0")
    settings = {
        **kept,
        "zero_optimization": zero,
        # DeepSpeed only reports throughput by it; the trainer counts.
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "steps_per_print": kept.get("steps_per_print", 10**9),
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": config.weights == "bf16"},
    }
    if config.weights == "bf16":
        settings["data_types"] = {"grad_accum_dtype": "bf16"}
    return settings


def choose_stage(config: BackendConfig, found: Any) -> int:
    """ZeRO stage of config and json. Raises ConfigError where they contradict each other."""
    if found is not None and found != "auto" and found not in (0, 1, 2, 3):
        raise ConfigError(
            f"{config.deepspeed}: zero_optimization.stage: found {found!r}; valid: 0, 1, 2, 3"
        )
    if config.zero_stage is None:
        return 1 if found in (None, "auto") else int(found)
    if found not in (None, "auto", config.zero_stage):
        raise ConfigError(
            f"backend.zero_stage is {config.zero_stage}, but {config.deepspeed} says {found};"
            " set one of them"
        )
    return config.zero_stage
