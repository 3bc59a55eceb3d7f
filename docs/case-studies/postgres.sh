#!/bin/sh
# Six clients that update two rows, over and over. To be run as root: the server refuses to.
# postgres.sh FOLDER [FORKTRACE [PORT]]: leaves the report, the trace and the samples in FOLDER.
set -eu
own=$(dirname "$(realpath "$0")")
mkdir -p "$1"
folder=$(realpath "$1")
bin=$(ls -d /usr/lib/postgresql/*/bin | tail -1)
port=${3:-7432}
chown postgres "$folder"
cd "$folder"
su postgres -c "$bin/initdb -D $folder/db -A trust" >initdb.log
"${2:-forktrace}" run -u postgres --save postgres.ft -o report.txt -- \
    "$bin/postgres" -D "$folder/db" -p $port -k "$folder" -h '' >server.log 2>&1 &
until su postgres -c "$bin/pg_isready -q -h $folder -p $port"; do kill -0 $!; sleep 0.1; done
sql="$bin/psql -q -h $folder -p $port -U postgres"
$sql -c "create table counter (id int primary key, n bigint); insert into counter values (1, 0), (2, 0)"
cat >sample.sql <<'SQL'
select coalesce(wait_event_type || ':' || wait_event, 'running') from pg_stat_activity where application_name = 'pgbench';
\watch 0.02
SQL
timeout 6 $sql -At -f sample.sql >samples.txt &
"$bin/pgbench" -n -h "$folder" -p $port -U postgres -c 6 -j 2 -T 4 -f "$own/row.sql" postgres >pgbench.txt 2>&1
sleep 2.5
kill -INT "$(head -1 db/postmaster.pid)"
wait
grep -E ':|running' samples.txt | sort | uniq -c | sort -rn
