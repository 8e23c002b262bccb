#!/usr/bin/env bash
# Runs the two commands of the README on a Debian 12 that has nothing: see --help.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
  cat <<'USAGE'
usage: tests/bare_debian.sh [--root DIR] [--mirror URL] [COMMAND...]

Makes a minimal Debian 12 with debootstrap in a folder, puts the last commit of this checkout into it, enters it with
pivot_root in mount and pid namespaces of its own (a plain chroot forbids user namespaces, which the sandbox needs), and
runs the commands there, one after the other, each a line for bash in the root of the project. Default: scripts/demo.
As root; needs debootstrap, git and some 6 GB.

  --root DIR     the folder (default: a temporary one, removed at the end). One that has a Debian in it is used again, with
                 what earlier runs installed and built there
  --mirror URL   of Debian's packages (default: debootstrap's)
  --help         this text

Settings of apt on this machine (proxies, certificates) are taken over. The exit status is that of the first command
that fails.
USAGE
}

die() {
  echo "bare_debian: $*" >&2
  exit 1
}

root='' mirror=''
while (($#)); do
  case "$1" in
    --root) root=${2:?}; shift 2 ;;
    --mirror) mirror=${2:?}; shift 2 ;;
    -h | --help) usage; exit 0 ;;
    -*) usage >&2; die "unknown option: $1" ;;
    *) break ;;
  esac
done
(($#)) || set -- scripts/demo
((EUID == 0)) || die "must be root"
command -v debootstrap >/dev/null || die "debootstrap is not installed"

if [[ -z $root ]]; then
  root=$(mktemp -d)
  trap 'rm -rf --one-file-system "$root"' EXIT
fi
mkdir -p "$root"
root=$(realpath "$root")
if [[ ! -e $root/etc/debian_version ]]; then
  debootstrap --variant=minbase bookworm "$root" ${mirror:+"$mirror"}
fi
cp /etc/resolv.conf "$root/etc/"
cp -r /etc/apt/apt.conf.d/. "$root/etc/apt/apt.conf.d/"
rm -f "$root"/etc/apt/apt.conf.d/{20packagekit,50appstream,70debconf}

rm -rf "$root/holdfast"
mkdir "$root/holdfast"
git archive HEAD | tar -x -C "$root/holdfast"

# Runs in the new namespaces: makes the folder the root, and what was the root disappear.
inside='
set -euo pipefail
root=$1; shift
mount --bind "$root" "$root"
cd "$root"
mkdir -p old dev proc sys
mount --rbind /dev dev
mount --rbind /sys sys
mount -t proc proc proc
mount -t tmpfs tmpfs tmp
pivot_root . old
umount -l /old
export HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8
cd /holdfast
for command; do
  echo "bare_debian: $command"
  bash -c "$command" </dev/null
done'
env -i TERM="${TERM:-dumb}" unshare --mount --pid --fork --propagation private /bin/bash -c "$inside" bare_debian "$root" "$@"
