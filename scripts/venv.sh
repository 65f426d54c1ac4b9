#!/usr/bin/env bash
# Makes .venv and installs Treadle into it, with all extras. The stamp makes a second call instant.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/python.sh

make_environment .venv
echo "Installing Treadle into .venv (the first time takes minutes: PyTorch is large) …"
.venv/bin/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e ".[train,dev]"
touch .venv/.installed
