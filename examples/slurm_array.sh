#!/usr/bin/env bash
#SBATCH --job-name=medk2n --array=1-8 --cpus-per-task=4 --mem=6G
# A PACS export as a Slurm array: each task takes its part of the studies, with the weights loaded once, into a folder of its own.
# sbatch examples/slurm_array.sh EXPORT OUT      The same command again goes on where a task was stopped.
set -eu
export_folder=$1 out=$2 part=$SLURM_ARRAY_TASK_ID parts=$SLURM_ARRAY_TASK_COUNT
exec medk2n batch --in "$export_folder" --out "$out/part_$part" --part "$part/$parts" --want missing --resume \
  --threads "${SLURM_CPUS_PER_TASK:-0}"
