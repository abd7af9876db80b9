"""Sigma rules for MITRE ATT&CK T1114.002, built for three SIEMs and proved by execution."""
