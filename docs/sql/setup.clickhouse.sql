-- ClickHouse: the tables of a folder that `forktrace export --to DIR` wrote, as views.
-- Put the folder in place of DIR:   sed s:DIR:/srv/traces:g setup.clickhouse.sql | cat - QUESTION.sql | clickhouse local -n
create view stretches as select * from file('DIR/stretches/*/*/*.parquet', Parquet) settings use_hive_partitioning = 1;
create view minutes as select * from file('DIR/minutes/*/*/*.parquet', Parquet) settings use_hive_partitioning = 1;
create view tasks as select * from file('DIR/tasks/*/*/*.parquet', Parquet) settings use_hive_partitioning = 1;
create view stalls as select * from file('DIR/stalls/*/*/*.parquet', Parquet) settings use_hive_partitioning = 1;
create view causes as select * from file('DIR/causes/*/*/*.parquet', Parquet) settings use_hive_partitioning = 1;
create view task_groups as select * from file('DIR/groups/*/*/*.parquet', Parquet) settings use_hive_partitioning = 1;
create view findings as select * from file('DIR/findings/*/*/*.parquet', Parquet) settings use_hive_partitioning = 1;
create view objects as select * from file('DIR/objects/*/*/*.parquet', Parquet) settings use_hive_partitioning = 1;
create view locks as select * from file('DIR/locks/*/*/*.parquet', Parquet) settings use_hive_partitioning = 1;
create view polls as select * from file('DIR/polls/*/*/*.parquet', Parquet) settings use_hive_partitioning = 1;
create view marks as select * from file('DIR/marks/*/*/*.parquet', Parquet) settings use_hive_partitioning = 1;
create view audit as select * from file('DIR/audit/*/*/*.parquet', Parquet) settings use_hive_partitioning = 1;
