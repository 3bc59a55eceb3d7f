-- Spark: the tables of a folder that `forktrace export --to DIR` wrote, as views.
-- Put the folder in place of DIR:   sed s:DIR:/srv/traces:g setup.spark.sql > setup.sql; spark-sql -i setup.sql -f QUESTION.sql
create temporary view stretches using parquet options (path 'DIR/stretches');
create temporary view minutes using parquet options (path 'DIR/minutes');
create temporary view tasks using parquet options (path 'DIR/tasks');
create temporary view stalls using parquet options (path 'DIR/stalls');
create temporary view causes using parquet options (path 'DIR/causes');
create temporary view task_groups using parquet options (path 'DIR/groups');
create temporary view findings using parquet options (path 'DIR/findings');
create temporary view objects using parquet options (path 'DIR/objects');
create temporary view locks using parquet options (path 'DIR/locks');
create temporary view polls using parquet options (path 'DIR/polls');
create temporary view marks using parquet options (path 'DIR/marks');
create temporary view audit using parquet options (path 'DIR/audit');
