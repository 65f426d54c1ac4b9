#!/usr/bin/env bash
# Makes .venv-bench: Treadle without PyTorch, and the peers that it is measured beside.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/python.sh

make_environment .venv-bench
echo "Installing Treadle and its peers into .venv-bench …"
.venv-bench/bin/python -m pip install -qq --disable-pip-version-check -e ".[bench]"
touch .venv-bench/.installed
