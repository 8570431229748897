#!/usr/bin/env bash
# Every study below EXPORT (a folder or a zip each): synthesise what it lacks, verify, and, where a PACS is named, send it.
# A study that fails is noted and the rest goes on; run it again and finished studies are left alone.
# examples/pacs_batch.sh EXPORT OUT [AET@host:port]
set -u
export_folder=$1 out=$2 pacs=${3:-} failed=0
mkdir -p "$out"
for study in "$export_folder"/*; do
  [ -d "$study" ] || [ "${study##*.}" = zip ] || continue
  name=$(basename "$study" .zip)
  result=$out/$name
  if [ ! -e "$result/result.json" ]; then # the manifest is written last: with it a result is whole
    medk2n synthesize --in "$study" --want missing --out "$result" --quiet 2>"$out/$name.log"
    code=$?
    if grep -q '^error: Nothing is missing' "$out/$name.log"; then
      echo "$name: complete, nothing to make"
      continue
    fi
    if [ $code -ne 0 ]; then
      echo "$name: not synthesised, exit code $code: $(grep -m1 '^error:' "$out/$name.log")"
      failed=8
      continue
    fi
  fi
  if ! medk2n verify "$result" >>"$out/$name.log" 2>&1; then
    echo "$name: the result is not what was written, see $out/$name.log"
    failed=8
  elif [ -n "$pacs" ] && ! medk2n send "$result" --to "$pacs" >>"$out/$name.log" 2>&1; then
    echo "$name: not sent: $(grep -m1 '^error:' "$out/$name.log")"
    failed=8
  else
    echo "$name: done"
  fi
done
exit $failed
