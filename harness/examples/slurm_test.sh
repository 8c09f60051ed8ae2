#!/usr/bin/env bash
# slurm_test.sh: slurm.sh on a cluster of this one machine: munged, slurmctld and slurmd of its own in a temporary folder, ended with it. Needs no root. Says "no Slurm" where there is none.
#   harness/examples/slurm_test.sh PRNN
set -euo pipefail

for program in munged slurmctld slurmd sbatch squeue scontrol; do
  PATH=$PATH:/usr/sbin:/sbin command -v "$program" >/dev/null || { echo "no Slurm: $program is not installed (apt-get install slurmctld slurmd slurm-client munge)"; exit 0; }
done
PATH=$PATH:/usr/sbin:/sbin
here=$(readlink -f -- "$(dirname -- "${BASH_SOURCE[0]}")")
PRNN=$(readlink -f -- "$1")
export PRNN
folder=$(mktemp -d)
cd "$folder"
ended() {
  local name process try
  for name in slurmd slurmctld munged; do
    [[ -s $folder/$name.pid ]] || continue
    process=$(<"$folder/$name.pid")
    kill "$process" 2>/dev/null || true
    for ((try = 0; try < 100; ++try)); do kill -0 "$process" 2>/dev/null && sleep 0.1 || break; done  # they write as they end
  done
  rm -rf "$folder"
}
trap ended EXIT

host=$(hostname -s) user=$(id -un)
chmod 755 "$folder"
mkdir state spool munge
chmod 755 munge
head -c 1024 /dev/urandom >munge.key
chmod 600 munge.key
munged --force --key-file "$folder/munge.key" --socket "$folder/munge/socket" --pid-file "$folder/munged.pid" --log-file "$folder/munged.log" --seed-file "$folder/munged.seed"
port=$((20000 + $$ % 20000))
cat >slurm.conf <<CONF
ClusterName=prnn
SlurmctldHost=$host(127.0.0.1)
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
CryptoType=crypto/munge
SlurmctldPort=$port
SlurmdPort=$((port + 1))
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
JobCompType=jobcomp/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=all Nodes=$host Default=YES State=UP
CONF
export SLURM_CONF=$folder/slurm.conf
slurmctld
slurmd
for ((try = 0; try < 100; ++try)); do
  ! sinfo --noheader --format=%T 2>/dev/null | grep -q idle || break
  sleep 0.1
done
sinfo --noheader --format='%N %T' | grep idle || { tail -n 5 slurmctld.log slurmd.log >&2; exit 1; }

cat >suite.toml <<'SUITE'
title = "four groups for an array of three"
cells = ["elman_diag"]
solvers = ["seq_fused", "newton_fused"]
hidden = 3
seq_len = [2, 3, 4, 5]
cache = "hot"
limits = { reference_s = 5 }
SUITE
export PRNN_CACHE=$folder/cache
last=$("$here/slurm.sh" "$folder/suite.toml" 3 "$folder/merged.jsonl" --device cpu)
for ((try = 0; try < 600; ++try)); do
  [[ -n $(squeue --noheader --jobs="$last" 2>/dev/null) ]] || break
  sleep 0.2
done
state=$(scontrol show job "$last" | grep -o 'JobState=[A-Z]*')
[[ $state == JobState=COMPLETED ]] || { echo "the last job: $state" >&2; cat ./*.log >&2; exit 1; }
rows=$(grep -c '"record":"case"' merged.jsonl)
[[ $rows == 8 ]] || { echo "merged.jsonl has $rows rows; expected 8" >&2; exit 1; }
echo "a job array of 3 shards, merged: $rows rows"
