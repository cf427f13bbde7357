# shellcheck shell=bash
# Programs that cargo builds, for those who run them themselves. Sourced.

# Reads what a build says with `--message-format json`: its programs, one a line.
built() { sed -n 's/.*"executable":"\([^"]*\)".*/\1/p'; }
