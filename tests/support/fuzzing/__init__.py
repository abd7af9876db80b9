"""The fuzzer: mutated rules, pipelines, events files and logs against the real command line.

`scripts/fuzz.py` runs it. `seeds` and `mutation` make an input from a number, `targets` says which commands
read it, `sandbox` runs one command and judges what it left behind, `campaign` runs many in worker processes.
"""
