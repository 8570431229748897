#!/usr/bin/env bash
# Every study folder below EXPORT, one result folder each; a failing study is noted and the rest goes on.
# examples/many_studies.sh EXPORT OUT
set -u
export_folder=$1 out=$2 failed=0
for study in "$export_folder"/*/; do
  name=$(basename "$study")
  if medk2n synthesize --in "$study" --want missing --out "$out/$name" --quiet; then
    echo "$name done"
  else
    echo "$name failed with exit code $?"
    failed=8
  fi
done
exit $failed
