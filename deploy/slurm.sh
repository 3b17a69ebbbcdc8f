#!/usr/bin/env bash
# One run on two machines under Slurm, with one worker each:
#
#   sbatch deploy/slurm.sh --flagfile=configs/dense.cfg --workdir=runs/dense
#
# Submit it with the project's environment active, from a disk that all machines share. Submit it
# again to resume from the last checkpoint, with any number of nodes.
#SBATCH --job-name=mnist_research
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
# SIGTERM two minutes before the time limit: the run saves and stops.
#SBATCH --signal=TERM@120
set -euo pipefail

# Jobs on the same machine need different ports.
port=$((20000 + SLURM_JOB_ID % 10000))
hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
addresses=$(sed "s/.*/\"&:$port\"/" <<<"$hosts" | paste -sd,)
export CLUSTER="{\"worker\": [$addresses]}"

# Without this, the others wait for a worker that fails at the start.
exec srun --kill-on-bad-exit=1 bash -c '
  export TF_CONFIG="{\"cluster\": $CLUSTER, \"task\": {\"type\": \"worker\", \"index\": $SLURM_PROCID}}"
  exec python -m mnist_research.train "$@"
' worker "$@"
