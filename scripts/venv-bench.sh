#!/usr/bin/env bash
# Creates .venv-bench with Treadle without PyTorch, and with the peers of the benchmark.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/python.sh

make_environment .venv-bench
echo "Installing Treadle and its peers into .venv-bench …"
.venv-bench/bin/python -m pip install -qq --disable-pip-version-check -e ".[local,report,bench]"
touch .venv-bench/.installed
