#!/bin/sh
# What the official image does: an empty PGDATA becomes a cluster with one user, who has a password, and one database.
set -eu
if ! [ -e "$PGDATA/PG_VERSION" ]; then
  mkdir -p "$PGDATA"
  password=$(mktemp)
  printf %s "$POSTGRES_PASSWORD" > "$password"
  initdb --username="$POSTGRES_USER" --pwfile="$password" --auth-local=trust --auth-host=scram-sha-256 --encoding=UTF8
  rm "$password"
  echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
  echo "CREATE DATABASE $POSTGRES_DB" | postgres --single postgres
fi
exec "$@"
