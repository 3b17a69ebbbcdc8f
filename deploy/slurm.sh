#!/usr/bin/env bash
# One training on two machines under Slurm, a worker on each:
#
#   sbatch deploy/slurm.sh --flagfile=configs/dense.cfg --workdir=runs/dense
#
# Submit it where `python` is that of the project's environment, on a disk that all machines share.
# Submitted again, it goes on from the last checkpoint, with any number of nodes.
#SBATCH --job-name=mnist_research
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
# Two minutes before the time limit each worker gets SIGTERM: the run saves and stops.
#SBATCH --signal=TERM@120
set -euo pipefail

# Jobs that share a machine need different ports.
port=$((20000 + SLURM_JOB_ID % 10000))
hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
addresses=$(sed "s/.*/\"&:$port\"/" <<<"$hosts" | paste -sd,)
export CLUSTER="{\"worker\": [$addresses]}"

# A worker that fails as it starts would leave the others waiting for it.
exec srun --kill-on-bad-exit=1 bash -c '
  export TF_CONFIG="{\"cluster\": $CLUSTER, \"task\": {\"type\": \"worker\", \"index\": $SLURM_PROCID}}"
  exec python -m mnist_research.train "$@"
' worker "$@"
