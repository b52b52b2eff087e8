#!/bin/sh
# versitygw --port :7070 --health /health posix /data
set -eu
while [ $# -gt 0 ]; do
  case "$1" in
    --port) port=${2#:}; shift 2 ;;
    --health) shift 2 ;;
    posix) folder=$2; shift 2 ;;
    *) echo "localbucket has no $1" >&2; exit 2 ;;
  esac
done
exec /opt/localbucket/bin/localbucket --host 0.0.0.0 --port "$port" "$folder"
