#!/usr/bin/env bash
# Creates .venv and installs Treadle with its extras. make does not repeat this while .venv/.installed is up to date.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/python.sh

make_environment .venv
echo "Installing Treadle into .venv (the first time takes some minutes, because PyTorch is large) …"
.venv/bin/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e ".[local,report,train,dev]"
touch .venv/.installed
