"""The thread that feeds MLflow with a sweep."""

from __future__ import annotations

import socket
import threading

from norface.tracking import TrackingConfig, open_run
from tune.feeding import SweepFeeder


def test_a_store_that_lets_the_feed_hang_is_not_asked_by_a_second_one(tmp_path, capfd, monkeypatch):
    """Two feeds that find no run would each make one."""
    # As long as the test lasts and longer.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "600")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    asked: list[socket.socket] = []
    called = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def take_calls() -> None:
            while True:
                try:
                    asked.append(server.accept()[0])
                except OSError:
                    return
                called.set()

        threading.Thread(target=take_calls, daemon=True).start()
        tracking = TrackingConfig(uri=f"http://127.0.0.1:{server.getsockname()[1]}")
        folder = tmp_path / "s"
        open_run(folder, kind="sweep", tracking=tracking, root=tmp_path)
        with SweepFeeder(folder, tracking, patience_s=0.5):
            assert called.wait(120)
        assert len(asked) == 1
        assert f"later: norface track sync {folder}" in capfd.readouterr().err
        for one in asked:
            one.close()
