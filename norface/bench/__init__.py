"""Speed and memory of what is done millions of times, measured on this machine."""
