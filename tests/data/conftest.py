import pytest
from coloured_faces import make_record

from norface.data.shards import ShardIndex, ShardWriter


@pytest.fixture
def write_shards(tmp_path):
    """A function that writes `count` faces of 4 subjects and opens their index."""

    def write(count=10, *, name="shards", samples_per_shard=4, side=16):
        folder = tmp_path / name
        with ShardWriter(folder, side=side, samples_per_shard=samples_per_shard) as writer:
            for number in range(count):
                writer.write(
                    make_record(
                        number,
                        side=side,
                        presence={12: number % 2},
                        intensity={12: float(number % 6)} if number % 3 else {},
                        emotion="happiness" if number % 2 else None,
                        split="train" if number < 6 else "test",
                    )
                )
        return ShardIndex.open(folder)

    return write
