#!/usr/bin/env bash
# Installs the Debian packages that tests use: Chromium for the pages, bubblewrap and two small
# language packages for the sandbox, two shells for completion.
# Without apt or root the tests that need them skip and say so.
set -u
wanted=()
command -v chromium >/dev/null 2>&1 || wanted+=(chromium)
command -v chromedriver >/dev/null 2>&1 || wanted+=(chromium-driver)
command -v bwrap >/dev/null 2>&1 || wanted+=(bubblewrap)
command -v php >/dev/null 2>&1 || wanted+=(php-cli)
[ -e /usr/share/java/javatuples.jar ] || wanted+=(libjavatuples-java)
command -v zsh >/dev/null 2>&1 || wanted+=(zsh)
command -v fish >/dev/null 2>&1 || wanted+=(fish)
[ ${#wanted[@]} = 0 ] && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
  echo "${wanted[*]} cannot be installed from here; tests that need them will be skipped" >&2
  exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq >/dev/null 2>&1
for package in "${wanted[@]}"; do
  apt-get install -y -qq --no-install-recommends "$package" >/dev/null 2>&1 \
    || echo "installing $package failed; tests that need it will be skipped" >&2
done
