"""Sweeps over any key of a config: searched by Ray Tune, or by an array of jobs without Ray.

    python -m tune.search configs/tune/experts.yaml           one machine, or a cluster of Ray
    python -m tune.array configs/tune/experts.yaml            jobs of their own, through submitit
    python -m tune.report runs/experts                        a page of what came out

A sweep's folder is the truth (folder.py); Ray only says which trial runs where and which stops.
"""
