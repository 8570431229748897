#!/usr/bin/env bash
# A PACS export on one machine with many cores: PROCESSES batches side by side, each with a part of the studies.
# examples/xargs_parts.sh EXPORT OUT PROCESSES      The same command again goes on where it was stopped.
set -u
export_folder=$1 out=$2 processes=$3
threads=$(($(nproc) / processes))
seq "$processes" | xargs -P "$processes" -I{} medk2n batch --in "$export_folder" --out "$out/part_{}" --part "{}/$processes" \
  --want missing --resume --threads $((threads > 0 ? threads : 1))
