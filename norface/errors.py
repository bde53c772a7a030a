"""The errors a user can cause. Each message is one line: what, where, what was found, what to do.

The command line prints the message of a NorfaceError without a traceback and exits with 2.
"""

import re


class NorfaceError(Exception):
    """Base of every error that the user can mend."""


class ConfigError(NorfaceError):
    """A key or a value of a configuration is wrong."""


class CorpusError(NorfaceError):
    """A picture, a label, a shard, an index or a fold is missing, damaged or contradictory."""


class WeightsError(NorfaceError):
    """A weights file is missing, of another shape, or not the file it claims to be."""


class CheckpointError(NorfaceError):
    """A run folder or checkpoint cannot be written, read or continued."""


class LaunchError(NorfaceError):
    """Processes were started otherwise than the job asked for."""


class TrainingError(NorfaceError):
    """A training cannot go on: a loss is not finite."""


class TrackingError(NorfaceError):
    """A run could not be brought to the tracking store."""


def hide_password(text: str) -> str:
    """Text without the user and password of addresses in it."""
    return re.sub(r"//[^/@\s]*@", "//", text)
