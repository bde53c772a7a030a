"""Sets of candidate targets."""

from tune.candidates import CHOSEN, choose_set


def test_the_link_to_a_set_is_replaced_whatever_a_killed_process_has_left(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        # As if killed between making the link and giving it its name.
        (tmp_path / f".{CHOSEN}").symlink_to("gone")
        choose_set(tmp_path / name)
        assert (tmp_path / CHOSEN).resolve() == tmp_path / name
    assert sorted(path.name for path in tmp_path.iterdir()) == [CHOSEN, "one", "two"]
