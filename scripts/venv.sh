#!/usr/bin/env bash
# Makes .venv and installs Treadle into it, with all extras. The stamp makes a second call instant.
set -euo pipefail
cd "$(dirname "$0")/.."

find_python() {
  local candidate
  for candidate in python3.11 python3.12 python3.13 python3; do
    if command -v "$candidate" >/dev/null &&
      "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
      echo "$candidate"
      return
    fi
  done
  echo "Treadle needs Python 3.11 or newer: apt-get install python3.11 python3-venv" >&2
  exit 1
}

if [[ ! -x .venv/bin/python ]]; then
  python=$(find_python)
  if ! "$python" -m venv .venv; then
    rm -rf .venv
    echo "$python cannot make a virtual environment: apt-get install python3-venv" >&2
    exit 1
  fi
fi

echo "Installing Treadle into .venv (the first time takes minutes: PyTorch is large) …"
.venv/bin/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e ".[train,dev]"
touch .venv/.installed
