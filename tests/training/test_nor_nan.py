"""A loss of F_nor that turns NaN: term, step and pairs are named, what was good is kept."""

import pytest
from small_nor import config_maker

from norface.errors import TrainingError
from norface.tracking import TrackingConfig
from norface.training.run import run_stage
from norface.training.stages.nor import NorStage


class TurnsNan(NorStage):
    """The third batch that is judged has no expression."""

    judged = 0

    def judge(self, *images, **more):
        losses = super().judge(*images, **more)
        self.judged += 1
        if self.judged == 3:
            losses["exp"] = losses["exp"] * float("nan")
        return losses


@pytest.mark.parametrize("dry", [False, True])
def test_term_step_and_pairs_are_named_and_the_last_good_checkpoint_is_kept(tmp_path, dry):
    trainer = {"images": 16, "batch_per_rank": 2, "save_every_steps": 1, "dry_run": dry}
    config = config_maker(
        tmp_path, trainer=trainer, root=tmp_path, tracking=TrackingConfig(mlflow=False)
    )()
    pair = r"synthetic_S\d_c_\d on synthetic_S\d_c_\d"
    # The dry run judges one batch.
    step = 2 if dry else 3
    with pytest.raises(TrainingError, match=rf"step {step}: exp not finite .* {pair}, {pair};"):
        run_stage(TurnsNan, config)
    saved = sorted(path.name for path in (tmp_path / config.name / "checkpoints").iterdir())
    assert saved[-1] == f"step-{step - 1:08d}"
    # The pictures were not to blame: the same command goes on from there.
    run_stage(NorStage, config)
