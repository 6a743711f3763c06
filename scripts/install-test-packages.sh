#!/usr/bin/env bash
# Installs the Debian packages that tests use (Chromium, for the pages). Without apt or root the
# tests that need them skip and say so.
set -u
command -v chromium >/dev/null 2>&1 && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
  echo "chromium is not installed and cannot be installed from here; page tests will be skipped" >&2
  exit 0
fi
export DEBIAN_FRONTEND=noninteractive
{ apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium chromium-driver; } >/dev/null 2>&1 \
  || echo "installing chromium failed; page tests will be skipped" >&2
