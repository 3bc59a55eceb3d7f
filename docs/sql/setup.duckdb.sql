-- DuckDB: the tables of a folder that `forktrace export --to DIR` wrote, as views.
-- Put the folder in place of DIR:   sed s:DIR:/srv/traces:g setup.duckdb.sql | cat - QUESTION.sql | duckdb
create view stretches as select * from read_parquet('DIR/stretches/*/*/*.parquet', hive_partitioning = true, hive_types = {'day': date, 'host': varchar}, union_by_name = true);
create view minutes as select * from read_parquet('DIR/minutes/*/*/*.parquet', hive_partitioning = true, hive_types = {'day': date, 'host': varchar}, union_by_name = true);
create view tasks as select * from read_parquet('DIR/tasks/*/*/*.parquet', hive_partitioning = true, hive_types = {'day': date, 'host': varchar}, union_by_name = true);
create view stalls as select * from read_parquet('DIR/stalls/*/*/*.parquet', hive_partitioning = true, hive_types = {'day': date, 'host': varchar}, union_by_name = true);
create view causes as select * from read_parquet('DIR/causes/*/*/*.parquet', hive_partitioning = true, hive_types = {'day': date, 'host': varchar}, union_by_name = true);
create view task_groups as select * from read_parquet('DIR/groups/*/*/*.parquet', hive_partitioning = true, hive_types = {'day': date, 'host': varchar}, union_by_name = true);
create view findings as select * from read_parquet('DIR/findings/*/*/*.parquet', hive_partitioning = true, hive_types = {'day': date, 'host': varchar}, union_by_name = true);
create view objects as select * from read_parquet('DIR/objects/*/*/*.parquet', hive_partitioning = true, hive_types = {'day': date, 'host': varchar}, union_by_name = true);
create view locks as select * from read_parquet('DIR/locks/*/*/*.parquet', hive_partitioning = true, hive_types = {'day': date, 'host': varchar}, union_by_name = true);
create view polls as select * from read_parquet('DIR/polls/*/*/*.parquet', hive_partitioning = true, hive_types = {'day': date, 'host': varchar}, union_by_name = true);
create view marks as select * from read_parquet('DIR/marks/*/*/*.parquet', hive_partitioning = true, hive_types = {'day': date, 'host': varchar}, union_by_name = true);
create view audit as select * from read_parquet('DIR/audit/*/*/*.parquet', hive_partitioning = true, hive_types = {'day': date, 'host': varchar}, union_by_name = true);
