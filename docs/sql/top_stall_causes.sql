-- What held services up most, over all that was recorded? Idle times are no stalls. To ask of
-- one week:   where day between '2026-11-23' and '2026-11-29' and …
select c.name as task_name, c.reason, c.object_kind, sum(c.ns) as held_up_ns, sum(c.episodes) as stalls,
       max(c.longest_ns) as longest, count(distinct c.host) as hosts
from causes c
join task_groups g on g.trace = c.trace and g.group_id = c.group_id
where g.kind = 'tree' and c.verdict <> 'idle'
group by c.name, c.reason, c.object_kind
order by held_up_ns desc, task_name, reason
limit 50;
