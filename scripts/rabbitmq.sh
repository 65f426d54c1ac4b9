#!/usr/bin/env bash
# Installs RabbitMQ by apt if it is missing and apt can be used. Never fails: without RabbitMQ the bus is in-process.
# The system service is not started, because Treadle runs a private node on loopback.
set -euo pipefail
cd "$(dirname "$0")/.."

DECLINED=.venv/.rabbitmq-declined
POLICY=/usr/sbin/policy-rc.d
APT=(apt-get -qq -o Acquire::Retries=1 -o Acquire::http::Timeout=15 -o Acquire::https::Timeout=15
  -o DPkg::Lock::Timeout=120)

in_process() {
  echo "RabbitMQ: $1; the in-process bus will be used. To get it: apt-get install rabbitmq-server" >&2
  exit 0
}

have_rabbitmq() {
  command -v rabbitmq-server >/dev/null || [[ -x /usr/sbin/rabbitmq-server || -x /usr/lib/rabbitmq/bin/rabbitmq-server ]]
}

as_root() {
  if [[ $EUID -eq 0 ]]; then "$@"; elif [[ -t 0 ]]; then sudo "$@"; else sudo -n "$@"; fi
}

may_become_root() {
  [[ $EUID -eq 0 ]] || { command -v sudo >/dev/null && { [[ -t 0 ]] || sudo -n true 2>/dev/null; }; }
}

confirm_install() {
  [[ -t 0 && -t 1 ]] || return 0
  local answer
  read -r -p "Install RabbitMQ by apt, without starting its service? Treadle also runs without RabbitMQ. [Y/n] " answer
  [[ ! $answer =~ ^[Nn] ]]
}

is_ours() {
  grep -qs "by treadle" "$POLICY"
}

block_services() {
  if [[ -e $POLICY || -L $POLICY ]] && ! is_ours; then
    as_root mv "$POLICY" "$POLICY.before-treadle" || return 1
  fi
  printf '#!/bin/sh\n# by treadle, during one installation\nexit 101\n' | as_root tee "$POLICY" >/dev/null &&
    as_root chmod 755 "$POLICY"
}

allow_services() {
  if is_ours; then as_root rm -f "$POLICY"; fi
  if [[ -e $POLICY.before-treadle || -L $POLICY.before-treadle ]]; then
    as_root mv "$POLICY.before-treadle" "$POLICY"
  fi
}

install_rabbitmq() {
  trap allow_services EXIT
  trap 'exit 130' INT TERM
  block_services &&
    as_root "${APT[@]}" update &&
    as_root env DEBIAN_FRONTEND=noninteractive "${APT[@]}" install -y --no-install-recommends rabbitmq-server
}

have_rabbitmq && exit 0
[[ ! -e $DECLINED ]] || in_process "the installation was declined before (delete $DECLINED to be asked again)"
command -v apt-get >/dev/null || in_process "this system has no apt-get"
may_become_root || in_process "the installation needs root or sudo"
confirm_install || { touch "$DECLINED"; in_process "the installation was declined"; }

echo "Installing RabbitMQ by apt; its service is not started …"
log=$(mktemp)
if ! (install_rabbitmq) >"$log" 2>&1; then
  tail -n 5 "$log" >&2
  rm -f "$log"
  in_process "apt could not install it"
fi
rm -f "$log"
# The package enables its service for the next boot, which Treadle does not need.
if command -v systemctl >/dev/null; then as_root systemctl disable --quiet rabbitmq-server 2>/dev/null || true; fi
