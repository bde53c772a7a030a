"""Whether this machine, these ranks and the files of a config are fit to train."""
