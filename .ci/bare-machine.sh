#!/usr/bin/env bash
# Shows the README's two commands on a bare machine: a minimal root file system of this machine's distribution (Debian 12 or Ubuntu 24.04), made for it, with no
# compiler, CMake, git, Python or CUDA. Writes .ci/bare-machine.log. Needs root and mmdebstrap (installed if absent); takes about as long as `./prnn test` and the set-up.
#   .ci/bare-machine.sh [--worktree] [--keep]
# Default is a clean clone of HEAD; --worktree takes the files as they lie, without .git. --keep leaves the root file system and prints where.
# Mirrors are those this machine's apt is set to; the log names none of them.
set -euo pipefail
cd "$(dirname -- "${BASH_SOURCE[0]}")/.."
keep="" worktree=""
for argument; do
  case $argument in
    --worktree) worktree=yes ;;
    --keep) keep=yes ;;
    *) echo "usage: .ci/bare-machine.sh [--worktree] [--keep]" >&2; exit 64 ;;
  esac
done
((EUID == 0)) || { echo "bare-machine.sh: needs root" >&2; exit 64; }

work=$(mktemp -d "${TMPDIR:-/tmp}/prnn-bare-XXXXXX")
chmod 755 "$work"
rootfs=$work/rootfs
[[ $keep ]] && trap 'echo "kept: $rootfs"' EXIT || trap 'rm -rf --one-file-system "$work"' EXIT
log=.ci/bare-machine.log
exec > >(sed -uE "s#[a-z]+://[^ ]+#MIRROR#g; s#$work|$PWD##g" | tee "$log") 2>&1  # no host and no path of this machine

apt-get update -qq
command -v mmdebstrap >/dev/null || DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mmdebstrap >/dev/null
. /etc/os-release
apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' "Origin: $([[ $ID == ubuntu ]] && echo Ubuntu || echo Debian)" |
  grep -E 'main$|universe$' | sort -u >"$work/sources.list"
apt-config dump | grep -iE '^Acquire::https?::(.*::)?Proxy' >"$work/proxy.conf" || true

echo "== $(date -u +%Y-%m-%dT%H:%M:%SZ), commit $(git rev-parse --short HEAD 2>/dev/null || echo none)${worktree:+, the work tree as it lies}, $(nproc) cores"
echo "== a minimal root file system ($VERSION_CODENAME, variant minbase)"
mmdebstrap --quiet --variant=minbase --aptopt="$work/proxy.conf" "$VERSION_CODENAME" "$rootfs" "$work/sources.list"
cp -L /etc/resolv.conf /etc/hosts "$rootfs/etc/"
if [[ $worktree ]]; then
  mkdir "$rootfs/prnn"
  git ls-files -z --cached --others --exclude-standard | xargs -0 -I{} find {} -maxdepth 0 -print0 2>/dev/null | tar -c --null -T - | tar -x -C "$rootfs/prnn"
else
  git clone -q --no-hardlinks . "$rootfs/prnn"
fi

# In namespaces of its own, so that nothing stays mounted or running; the environment is empty but for what reaches the mirror.
inside() {  # SCRIPT, run in /prnn
  unshare --mount --pid --fork bash -c '
    mount -t proc proc "$1/proc" && mount -t sysfs -o ro sysfs "$1/sys" && mount -t tmpfs tmpfs "$1/dev/shm"
    exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} \
      chroot "$1" bash -c "cd /prnn && $2"' - "$rootfs" "$1" </dev/null
}

echo "== what is in it: $(inside '. /etc/os-release; echo $PRETTY_NAME'), $(inside 'dpkg-query -W | wc -l') packages"
inside 'dpkg-query -W -f "\${Package} "'
echo
inside 'for tool in gcc g++ cc clang make cmake ninja git python3 nvcc; do ! command -v $tool || exit 1; done; ! ls -d /usr/local/cuda*' 2>/dev/null || { echo "not bare"; exit 1; }
echo "== none of gcc g++ cc clang make cmake ninja git python3 nvcc, no /usr/local/cuda"

failed=0
try() {  # COMMAND: its output (the last 60 lines), exit code, seconds
  local started=$SECONDS code=0
  echo "== $1"
  inside "$1" >"$work/output" 2>&1 || code=$?
  tail -n 60 "$work/output"
  echo "== $1: exit $code, $((SECONDS - started)) s"
  ((code == 0)) || failed=1
}
try "./prnn run suites/quick.toml"
try "./prnn test"
try "./prnn list"  # nothing has changed since: what an unchanged build costs

((failed)) && echo "== FAILED" || echo "== both commands work on a bare machine"
exit "$failed"
