# Functions for the scripts that create virtual environments.

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

# make_environment FOLDER: creates a virtual environment, if FOLDER has none.
make_environment() {
  [[ -x $1/bin/python ]] && return
  local python
  python=$(find_python)
  if ! "$python" -m venv "$1"; then
    rm -rf "$1"
    echo "$python cannot create a virtual environment: apt-get install python3-venv" >&2
    exit 1
  fi
}
