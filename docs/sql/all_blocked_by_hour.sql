-- How long was each service all blocked, by the hour that its recording began in? Where
-- records are missing the true figure is between the two bounds; where they are equal it is exact.
select g.name as service, g.start_ns - g.start_ns % 3600000000000 as hour_ns,
       sum(g.all_blocked_lower_ns) as at_least_ns, sum(g.all_blocked_upper_ns) as at_most_ns,
       sum(g.lifetime_ns) as recorded_ns
from task_groups g
where g.kind = 'tree'
group by g.name, g.start_ns - g.start_ns % 3600000000000
order by service, hour_ns;
